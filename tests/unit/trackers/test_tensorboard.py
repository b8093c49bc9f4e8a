"""Event files, read back by TensorBoard itself."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toolkit.trackers.base import Log, TrackedRun
from toolkit.trackers.tensorboard import TensorBoardTracker

pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")


def opened(folder: Path, reference: str | None = None) -> Log:
    return TensorBoardTracker().open(TrackedRun("mine", folder, folder.parent), reference)


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(name)]


def test_curves_go_on_over_several_files(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.figures({"train/loss": 0.5, "train/accuracy": 0.25}, 1)
    first.close(finished=False)
    second = opened(tmp_path, first.reference)
    second.figures({"train/loss": 0.125, "train/accuracy": 0.75}, 2)
    second.close(finished=True)
    assert curve(tmp_path, "train/loss") == [(1, 0.5), (2, 0.125)]
    assert curve(tmp_path, "train/accuracy") == [(1, 0.25), (2, 0.75)]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_half_an_event_at_the_end_of_a_file_is_no_event(tmp_path: Path) -> None:
    killed = opened(tmp_path)
    for step in (1, 2):
        killed.figures({"train/loss": 0.5}, step)
    killed.close(finished=False)
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    again = opened(tmp_path, killed.reference)
    assert again.last_step("train/loss") == 1
    again.figures({"train/loss": 0.25}, 2)
    again.close(finished=True)
    assert curve(tmp_path, "train/loss") == [(1, 0.5), (2, 0.25)]


def test_a_new_log_removes_its_own_old_files_and_no_others(tmp_path: Path) -> None:
    opened(tmp_path).close(finished=True)
    other = tmp_path / "tensorboard" / "events.out.tfevents.1.host"
    other.write_bytes(b"")
    opened(tmp_path).close(finished=True)
    names = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert names[0] == other.name
    assert len(names) == 2


def test_texts_pictures_and_parameters_are_what_was_given(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    log = opened(tmp_path)
    log.parameters({"train.batch_size": 64, "name": "digits"})
    log.text("parity", "# passed ✓\n", 3)
    log.picture("confusion", tmp_path / "a.png", 1)
    log.close(finished=True)
    found = events(tmp_path)
    (text,) = found.Tensors("parity")
    assert (text.step, text.tensor_proto.string_val[0].decode()) == (3, "# passed ✓\n")
    assert found.SummaryMetadata("parity").plugin_data.plugin_name == "text"
    (picture,) = found.Images("confusion")
    assert (picture.width, picture.height) == (30, 20)
    assert picture.encoded_image_string == (tmp_path / "a.png").read_bytes()

    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    given = HParamsPluginData.FromString(content).session_start_info.hparams
    assert given["train.batch_size"].number_value == 64
    assert given["name"].string_value == "digits"


def test_no_file_names_the_machine(tmp_path: Path) -> None:
    opened(tmp_path).close(finished=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert socket.gethostname() not in file.name
