"""From the bytes of image files to labels, through the very ``Predictor`` that a service embeds.

It is another figure than the time of the model alone, and the two are never mixed: here decoding, resizing and Python
count too. One worker an artifact, one computing at a time, in interleaved rounds.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.bench import statistics
from toolkit.bench.end_to_end_worker import EndToEndJob
from toolkit.bench.process import WorkerFailedError, WorkerProcess
from toolkit.bench.rows import Plan
from toolkit.errors import FileWriteError
from toolkit.files import read_regular
from toolkit.preprocess import ImageSource, decode
from toolkit.progress import Reporter
from toolkit.results import EndToEnd, Phase

WORKER = "toolkit.bench.end_to_end_worker"
ROUNDS = 6
"""The fewest whose range holds the median in 95 of 100 cases."""
MOST_FILES = 32
"""Images of one call, which is what ``Predictor.predict`` takes at a time unless it is told otherwise."""
MOST_BYTES = 256 * 2**20
"""Of all files together; the first is taken in any case."""
PhaseName = Literal["decode", "resize", "call", "other"]


class WithSources(Protocol):
    """What is needed of the test split."""

    @property
    def sources(self) -> Sequence[ImageSource]:
        """One image each."""

    @property
    def max_pixels(self) -> int:
        """That an image may have."""


@dataclass(frozen=True)
class Files:
    """Image files that are the same for every artifact."""

    folder: Path
    count: int
    encoded_as_png: bool
    """Whether the data set has no files, and pictures were written as PNG."""
    max_pixels: int
    """That an image may have."""


def image_files(split: WithSources, folder: Path, seed: int) -> Files:
    """Put the bytes of some test images into a folder, a file each.

    Args:
        split: the test images.
        folder: is made.
        seed: of the drawing.

    Raises:
        ImageError: a picture that is no file cannot be decoded.
        FileWriteError: the folder cannot be written, or an image file cannot be read.
    """
    count = len(split.sources)
    drawn = np.random.default_rng(seed).permutation(count)[:MOST_FILES]
    written, total, encoded = 0, 0, False
    try:
        folder.mkdir()
        for index in drawn:
            source = split.sources[int(index)]
            content = _content_of_file(source)
            if content is None:
                encoded, content = True, _png(decode(source, split.max_pixels))
            total += len(content)
            if written and total > MOST_BYTES:
                break
            (folder / f"{written:04d}").write_bytes(content)
            written += 1
    except OSError as error:
        raise FileWriteError(
            f"cannot gather test images in {folder}: {error.strerror or error}. Point TMPDIR at a disk with more "
            "space, or leave the time from files to labels out with --no-end-to-end."
        ) from error
    return Files(folder, written, encoded, split.max_pixels)


def _content_of_file(source: ImageSource) -> bytes | None:
    if isinstance(source, str | os.PathLike):
        return read_regular(Path(source))
    return bytes(source) if isinstance(source, bytes | bytearray | memoryview) else None


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Asked:
    """What is the same for every artifact."""

    bundle: Path
    threads: int
    allow_code: bool
    min_seconds: float
    """Least measured time of one round."""


def measure_end_to_end(
    plans: Sequence[Plan], files: Files, asked: Asked, reporter: Reporter
) -> dict[tuple[str, str], EndToEnd]:
    """Measure artifacts in interleaved rounds.

    One that fails is left out, and a line says why; its row keeps the figures of the model alone.

    Args:
        plans: artifacts that could be measured at all.
        files: test images.
        asked: see there.
        reporter: where progress goes.

    Returns:
        What was measured, by name and device of the row.
    """
    total = len(plans) * (ROUNDS + 1)
    with _workers(plans, files, asked) as workers, reporter.bar("files to labels", total, "measurements") as bar:
        replies = _Replies(plans, workers, reporter)
        for do in ["measure"] * ROUNDS + ["phases"]:
            for index in range(len(plans)):
                replies.ask(index, do)
                bar.advance(row=plans[index].name)
    return {
        (plan.name, plan.device): end_to_end(replies.of[index], files)
        for index, plan in enumerate(plans)
        if index in workers
    }


@contextmanager
def _workers(plans: Sequence[Plan], files: Files, asked: Asked) -> Iterator[dict[int, WorkerProcess]]:
    """Start all workers at once: they import their engines at the same time."""
    workers: dict[int, WorkerProcess] = {}
    try:
        for index, plan in enumerate(plans):
            job = EndToEndJob(
                bundle=str(asked.bundle.resolve()),
                artifact=plan.name,
                device=plan.device,
                threads=asked.threads,
                allow_code=asked.allow_code,
                max_pixels=files.max_pixels,
                files=str(files.folder),
                min_seconds=asked.min_seconds,
            )
            workers[index] = WorkerProcess(job, files.folder.parent / f"end-to-end-{index}.log", WORKER)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


class _Replies:
    """What the workers answered; one that fails is left out."""

    def __init__(self, plans: Sequence[Plan], workers: dict[int, WorkerProcess], reporter: Reporter) -> None:
        self.of: dict[int, list[dict[str, Any]]] = {}
        self._plans = plans
        self._workers = workers
        self._reporter = reporter
        for index in list(workers):
            self._try(index, workers[index].wait_ready)

    def ask(self, index: int, do: str) -> None:
        """Send a command to a worker that is still there."""
        if (worker := self._workers.get(index)) is not None:
            self._try(index, lambda: self.of.setdefault(index, []).append(worker.ask(do)))

    def _try(self, index: int, work: Any) -> None:
        try:
            work()
        except WorkerFailedError as error:
            self._workers.pop(index).close()
            plan = self._plans[index]
            self._reporter.line(f"{plan.name} on {plan.device} is not measured from files to labels: {error}")


def end_to_end(replies: Sequence[dict[str, Any]], files: Files) -> EndToEnd:
    """Return the record of one artifact.

    Args:
        replies: those of a worker: rounds, then the phases.
        files: the images.
    """
    *rounds, phases = replies
    images = sum(reply["images"] for reply in rounds)
    whole = sum(phases.values())
    return EndToEnd(
        files=files.count,
        throughput=statistics.estimate([reply["images"] / reply["seconds"] for reply in rounds]),
        processor_seconds_per_image=sum(reply["processor_seconds"] for reply in rounds) / images,
        phases=tuple(
            Phase(name=name, seconds_per_image=phases[name], share=phases[name] / whole if whole else 0.0)
            for name in get_args(PhaseName)
        ),
        batch_size=files.count,
        encoded_as_png=files.encoded_as_png,
    )
