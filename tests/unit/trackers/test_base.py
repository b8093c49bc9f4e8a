"""What every tracker owes, held against each that is registered."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from toolkit.trackers.base import Log, TrackedRun, Tracker
from toolkit.trackers.registry import trackers

Open = Callable[..., Log]


@pytest.fixture(params=sorted(trackers()))
def tracker(request: pytest.FixtureRequest) -> Tracker:
    found = trackers()[request.param]
    if (missing := found.unavailable()) is not None:
        pytest.skip(missing)
    return found


@pytest.fixture
def opened(tracker: Tracker, tmp_path: Path, with_database: Callable[[Path], None]) -> Open:
    with_database(tmp_path)
    (tmp_path / "mine").mkdir()

    def call(reference: str | None = None) -> Log:
        return tracker.open(TrackedRun("mine", tmp_path / "mine", tmp_path), reference)

    return call


def test_a_log_that_is_opened_again_knows_what_it_has(opened: Open) -> None:
    log = opened()
    assert log.last_step("train/loss") == 0
    log.figures({"train/loss": 0.5, "train/accuracy": 0.25}, 1)
    log.figures({"train/loss": 0.25}, 2)
    assert (log.last_step("train/loss"), log.last_step("train/accuracy")) == (2, 1)
    log.close(finished=True)
    again = opened(log.reference)
    assert (again.last_step("train/loss"), again.last_step("train/accuracy")) == (2, 1)
    assert again.reference == log.reference
    again.figures({"train/loss": 0.125}, 3)
    again.close(finished=True)
    third = opened(log.reference)
    assert third.last_step("train/loss") == 3
    third.close(finished=True)


def test_what_was_written_is_there_though_nobody_closed_it(opened: Open) -> None:
    killed = opened()
    killed.figures({"train/loss": 0.5}, 7)
    again = opened(killed.reference)
    assert again.last_step("train/loss") == 7
    for log in (killed, again):
        log.close(finished=False)


def test_a_new_log_knows_nothing_of_the_one_before(opened: Open) -> None:
    before = opened()
    before.figures({"train/loss": 0.5}, 7)
    before.close(finished=False)
    new = opened()
    assert new.last_step("train/loss") == 0
    new.close(finished=True)


def test_everything_is_taken(opened: Open, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    log = opened()
    log.parameters({"train.batch_size": 64, "stage1.head_lr": 0.1, "cache.use": True, "name": "ç" * 9000, "empty": ""})
    log.figures({"odd": math.nan, "large": math.inf, "bench/onnx:fp16 (x)/cpu": 1.0}, 1)
    log.text("parity", "# passed\n", 1)
    log.text("parity", "# failed\n", 2)
    log.picture("a", tmp_path / "a.png", 1)
    log.close(finished=True)
    again = opened(log.reference)
    assert again.last_step("odd") == again.last_step("bench/onnx:fp16 (x)/cpu") == 1
    again.close(finished=True)
