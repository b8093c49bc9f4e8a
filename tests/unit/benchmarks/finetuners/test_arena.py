"""How the sides are started, and what their marks and answers come to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.finetuners.arena import FASTAI, LIGHTNING, OURS, Outcome, Point, outcome_of, side_command
from benchmarks.finetuners.side import Answers, Marks, Task, images_to_judge, read_task
from benchmarks.harness.child import Run
from benchmarks.harness.errors import BenchmarkError

RUN = Run(1.0, None, None, "")


@pytest.mark.parametrize(
    ("accuracy", "seconds"), [(0.5, 10.0), (0.6, 10.0), (0.61, 30.0), (0.7, 30.0), (0.9, 40.0), (0.91, None)]
)
def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_has_it(accuracy: float, seconds: float | None) -> None:
    # In the second epoch it is worse again.
    curve = tuple(Point(*point) for point in ((10.0, 0.6), (20.0, 0.5), (30.0, 0.7), (40.0, 0.9)))
    assert Outcome(curve, np.ones(1, np.bool_), RUN).seconds_to(accuracy) == seconds


def test_the_peers_run_in_their_python_and_toolkit_in_this_one(tmp_path: Path) -> None:
    task = Task(tmp_path, tmp_path, tmp_path, 64, 5, 0, 2)
    for side, expected in ((OURS, sys.executable), (FASTAI, "/peers/python"), (LIGHTNING, "/peers/python")):
        command = side_command(side, "train", task, Path("/peers/python"))
        assert command.words[:2] == [expected, "-m"]
        assert read_task(list(command.words)[3:]) == ("train", task)
        assert command.environment is not None
        assert Path(command.environment["PYTHONPATH"].split(os.pathsep)[0], "benchmarks").is_dir()


def test_a_side_that_cannot_be_judged_ends_it(images: Path, tmp_path: Path) -> None:
    task = Task(images, tmp_path, tmp_path, 64, 5, 0, 2)
    (tmp_path / "about.json").write_text("{}")
    with pytest.raises(BenchmarkError, match="toolkit marked 0 epochs and answered for 0"):
        outcome_of(OURS, task, RUN)
    Marks(tmp_path).add(lambda file: file.touch())
    # Cats, all of them: half of the images are.
    logits = np.tile(np.array([1, 0], np.float32), (len(images_to_judge(images)), 1))
    Answers(("cat", "sea lion"), (logits,)).save(tmp_path)
    assert outcome_of(OURS, task, RUN).end.accuracy == 0.5
    (tmp_path / "about.json").write_text('{"accuracy": "0.625"}')
    with pytest.raises(BenchmarkError, match=r"toolkit found 62.50% of the test images right, and here 50.00% are"):
        outcome_of(OURS, task, RUN)
    Answers(("cat", "sea lion"), (logits, logits)).save(tmp_path)
    with pytest.raises(BenchmarkError, match="toolkit marked 1 epochs and answered for 2"):
        outcome_of(OURS, task, RUN)
