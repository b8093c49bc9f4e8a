"""TensorBoard: event files in ``RUN/tensorboard``, so ``tensorboard --logdir artifacts`` shows all runs by name.

https://www.tensorflow.org/tensorboard
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.dependencies import import_optional, is_installed
from toolkit.distribution import install_hint
from toolkit.files import read_regular
from toolkit.trackers.base import TrackedRun, Value

FOLDER = "tensorboard"
"""In the run's folder."""
SUFFIX = ".toolkit"
"""Ends the names of the event files that are written here. TensorBoard's own writer puts the host's name there."""
_MISSING = f"TensorBoard is not installed: {install_hint('tensorboard')}"
_NO_LIMIT = {"scalars": 0, "images": 1, "tensors": 1}
"""How much of each kind is read back; 0 is everything."""


class TensorBoardTracker:
    """Implements ``trackers.base.Tracker``."""

    name = "tensorboard"
    title = "TensorBoard"

    def unavailable(self) -> str | None:
        """Say what is missing; the package is imported when it is used."""
        return None if is_installed("tensorboard") else _MISSING

    def open(self, run: TrackedRun, reference: str | None) -> _EventFile:
        """Begin another event file, beside those of earlier commands or in their place."""
        folder = run.folder / FOLDER
        if reference is None and folder.is_dir():
            for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
                old.unlink()
        return _EventFile(folder)


class _EventFile:
    """One event file. An event is on its way to the disk when a method returns; half an event is never read."""

    reference = FOLDER

    def __init__(self, folder: Path) -> None:
        self._earlier = _scalars(folder) if folder.is_dir() else {}
        folder.mkdir(parents=True, exist_ok=True)
        # Read in the order of the names. Two processes may begin in the same second.
        name = f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{os.getpid()}{SUFFIX}"
        self._file = (folder / name).open("xb")
        self._records = _part("summary.writer.record_writer").RecordWriter(self._file)
        self._event = _part("compat.proto.event_pb2").Event
        self._summary = _part("compat.proto.summary_pb2").Summary
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))

    def last_step(self, name: str) -> int:
        """Return the last step that an earlier event file, or this one, has of a figure."""
        return self._earlier.get(name, 0)

    def parameters(self, values: Mapping[str, Value]) -> None:
        """Write what the HParams page shows."""
        self._write_summary(_part("plugins.hparams.summary_v2").hparams_pb(dict(values)), 0)

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars as one event."""
        scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write_summary(self._summary(value=scalars), step)
        self._earlier.update({name: max(step, self.last_step(name)) for name in values})

    def text(self, name: str, markdown: str, step: int) -> None:
        """Write what the Text page shows."""
        metadata = _part("plugins.text.metadata").create_summary_metadata(name, "")
        tensor = _part("util.tensor_util").make_tensor_proto(markdown.encode(), shape=(1,))
        value = self._summary.Value(tag=name, metadata=metadata, tensor=tensor)
        self._write_summary(self._summary(value=[value]), step)

    def picture(self, name: str, png: Path, step: int) -> None:
        """Write the bytes of the file as they are."""
        content = read_regular(png)
        # IHDR is the first chunk: width and height stand at 16 (https://www.w3.org/TR/png-3/#11IHDR).
        width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
        image = self._summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)
        self._write_summary(self._summary(value=[self._summary.Value(tag=name, image=image)]), step)

    def close(self, *, finished: bool) -> None:
        """Close the file."""
        del finished
        self._file.close()

    def _write_summary(self, summary: Any, step: int) -> None:
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()


def _scalars(folder: Path) -> dict[str, int]:
    """Return the last step of every scalar in a folder of event files."""
    reader = _part("backend.event_processing.event_accumulator").EventAccumulator(str(folder), _NO_LIMIT)
    reader.Reload()
    return {name: max(event.step for event in reader.Scalars(name)) for name in reader.Tags()["scalars"]}


def _part(name: str) -> Any:
    """Import a module of TensorBoard."""
    return import_optional(f"tensorboard.{name}", _MISSING)
