"""The time to an accuracy, and each claim can be met and missed; the whole of it with sides that are written down."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers as module
from benchmarks.finetuners.side import Answers, Marks, Task, images_to_judge, read_task
from benchmarks.harness.child import Command, Run
from benchmarks.harness.environments import Environment
from benchmarks.harness.errors import BenchmarkError
from benchmarks.peers import (
    FASTAI,
    LIGHTNING,
    OURS,
    Outcome,
    Point,
    Round,
    benchmark,
    claims,
    difference,
    level_of,
    outcome_of,
    parse,
    shorter,
    side_command,
    tables,
)
from toolkit.compare.paired import paired_interval

IMAGES = 100


def outcome(*curve: tuple[float, float], wrong: Sequence[int] | None = None) -> Outcome:
    """One that gets the first images right in the end, or all but some."""
    points = tuple(Point(*point) for point in curve)
    right = np.arange(IMAGES) < round(IMAGES * points[-1].accuracy)
    if wrong is not None:
        right = ~np.isin(np.arange(IMAGES), wrong)
    return Outcome(points, right, Run(curve[-1][0] + 5, 10**9, 2 * 10**9, ""))


def rounds(*ours: Outcome, fastai: Outcome | None = None) -> list[Round]:
    """Seeds in which both peers end at 80% after 100 s."""
    peer = outcome((50.0, 0.85), (100.0, 0.80))
    return [{OURS: each, FASTAI: fastai or peer, LIGHTNING: peer} for each in ours]


def missed(measured: Sequence[Round], speedup: float = 5.0) -> list[str]:
    return [claim.text for claim in claims(measured, speedup) if not claim.met]


@pytest.mark.parametrize(
    ("accuracy", "seconds"), [(0.5, 10.0), (0.6, 10.0), (0.61, 30.0), (0.7, 30.0), (0.9, 40.0), (0.91, None)]
)
def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_has_it(accuracy: float, seconds: float | None) -> None:
    # In the second epoch it is worse again.
    assert outcome((10.0, 0.6), (20.0, 0.5), (30.0, 0.7), (40.0, 0.9)).seconds_to(accuracy) == seconds


def test_the_time_is_to_where_the_peer_ends_not_to_its_best() -> None:
    ratio = shorter(rounds(outcome((10.0, 0.79), (20.0, 0.80), (40.0, 0.9))), FASTAI)
    assert ratio is not None
    assert ratio.ratio == pytest.approx(100 / 20)


def test_over_the_seeds_it_is_the_middle_with_all_of_them_as_interval() -> None:
    measured = rounds(*(outcome((seconds, 0.9)) for seconds in (10.0, 20.0, 40.0)))
    ratio = shorter(measured, FASTAI)
    assert ratio is not None
    assert ratio.interval is not None
    assert (ratio.ratio, ratio.interval.low, ratio.interval.high) == pytest.approx((5.0, 2.5, 10.0))
    assert ratio.interval.level == 0.75
    assert claims(measured, 5.0)[0].measured == "5.00x [2.50, 10.00] (75% over 3 seeds)"
    assert [level_of(seeds) for seeds in (2, 3, 5, 6, 20)] == [0.5, 0.75, 0.9375, 0.95, 0.95]


def test_one_seed_has_no_interval() -> None:
    assert claims(rounds(outcome((20.0, 0.9))), 5.0)[0].measured == "5.00x (of one seed)"


def test_a_seed_in_which_it_is_never_there_misses_the_claim() -> None:
    measured = rounds(outcome((1.0, 0.9)), outcome((1.0, 0.79)))
    assert shorter(measured, FASTAI) is None
    assert claims(measured, 5.0)[0].measured == "toolkit does not reach it in every seed"
    assert not claims(measured, 5.0)[0].met
    row = tables(measured)[1].rows[2]
    assert row == ("1", FASTAI, "80.00%", "100.0", "never: at most 79.00%", "-")


def test_the_sides_are_written_out_with_their_range() -> None:
    rows = tables(rounds(outcome((20.0, 0.9)), outcome((30.0, 0.8))))[0].rows
    assert rows[0] == (
        OURS,
        "25.0 (20.0 to 30.0)",
        "30.0 (25.0 to 35.0)",
        "85.0% [76.7, 90.7]",
        "1,000",
        "2,000",
    )
    assert rows[1][:3] == (FASTAI, "100.0", "105.0")


def test_claims_are_met_with_nothing_to_spare_and_missed_beyond() -> None:
    assert missed(rounds(outcome((20.0, 0.8)))) == []
    assert (
        missed(rounds(outcome((20.1, 0.8)))) == [claim.text for claim in claims(rounds(outcome((20.1, 0.8))), 5.0)][::2]
    )
    assert missed(rounds(outcome((20.1, 0.8))), speedup=4.9) == []


def test_each_peer_is_judged_by_itself() -> None:
    slow = outcome((1000.0, 0.8))
    fast = rounds(outcome((20.0, 0.8)), fastai=slow)
    assert [claim.measured.split("x")[0] for claim in claims(fast, 5.0)[::2]] == ["50.00", "5.00"]


def test_a_difference_is_paired_image_by_image() -> None:
    # 30 and 20 wrong, 10 of them wrong on both sides: 20 are lost and 10 won.
    ours = outcome((20.0, 0.7), wrong=range(30))
    theirs = outcome((100.0, 0.8), wrong=range(20, 40))
    apart = difference(rounds(ours, fastai=theirs), FASTAI)
    assert apart.mean == pytest.approx(-0.10)
    assert apart.interval == paired_interval(60, 10, 20, 10)


def test_seeds_do_not_make_more_images_of_the_same_ones() -> None:
    theirs = outcome((100.0, 0.8), wrong=range(20))
    once = difference(rounds(outcome((20.0, 0.7), wrong=range(30)), fastai=theirs), FASTAI)
    thrice = difference(rounds(*[outcome((20.0, 0.7), wrong=range(30))] * 3, fastai=theirs), FASTAI)
    assert thrice.interval == once.interval
    assert thrice.each == pytest.approx((-0.1, -0.1, -0.1))
    mixed = difference(
        rounds(outcome((20.0, 0.7), wrong=range(30)), outcome((20.0, 0.9), wrong=range(10)), fastai=theirs), FASTAI
    )
    assert mixed.mean == pytest.approx(0.0)
    assert mixed.each == pytest.approx((-0.1, 0.1))


def test_less_accurate_than_chance_allows_is_said() -> None:
    worse = rounds(outcome((1.0, 0.9), (2.0, 0.6), wrong=range(40)))
    assert [text.split(":")[0] for text in missed(worse)] == [
        f"final accuracy no worse than that of {peer}" for peer in (FASTAI, LIGHTNING)
    ]
    within = rounds(outcome((1.0, 0.9), (2.0, 0.79), wrong=range(79, 100)))
    assert missed(within) == []


def test_the_peers_run_in_their_python_and_toolkit_in_this_one(tmp_path: Path) -> None:
    task = Task(tmp_path, tmp_path, tmp_path, 64, 5, 0, 2)
    for side, expected in ((OURS, sys.executable), (FASTAI, "/peers/python"), (LIGHTNING, "/peers/python")):
        command = side_command(side, "train", task, Path("/peers/python"))
        assert command.words[:2] == [expected, "-m"]
        assert read_task(list(command.words)[3:]) == ("train", task)
        assert command.environment is not None
        assert Path(command.environment["PYTHONPATH"].split(os.pathsep)[0], "benchmarks").is_dir()


class Written:
    """Sides whose marks and answers are written down: after each epoch a further part of the images is right."""

    def __init__(self, parts: dict[str, list[float]]) -> None:
        self.parts = parts
        self.tasks: dict[str, list[Task]] = {side: [] for side in module.MODULES}
        self.trained: list[list[str]] = []
        self.tested: list[list[str]] = []

    def side(self, words: Sequence[str]) -> str:
        return next(side for side, name in module.MODULES.items() if words[2].endswith(name))

    def run_in_turns(self, commands: Sequence[Command], turns: Sequence[float]) -> list[Run]:
        assert len(commands) == len(turns) == len(module.MODULES)
        runs = []
        for command in commands:
            side, (_, task) = self.side(command.words), read_task(list(command.words)[3:])
            self.tasks[side].append(task)
            if side == OURS:
                for split, seen in (("train", self.trained), ("test", self.tested)):
                    seen.append(sorted(str(file.resolve()) for file in (task.data / split).glob("*/*")))
            marks = Marks(task.output)
            began = time.monotonic()
            for _ in self.parts[side]:
                marks.add(lambda file: file.touch())
            (task.output / "about.json").write_text(json.dumps({"did": f"what {side} does"}))
            # One turn from just before the first mark on.
            runs.append(Run(9.0, None, None, "", turns=((began, time.monotonic()),)))
        return runs

    def run_child(self, words: Sequence[str], environment: object = None) -> Run:
        if words[2].endswith("initial_weights"):
            return Run(1.0, None, None, "a warning\nImageNet (a package)\n")
        step, task = read_task(list(words)[3:])
        files = images_to_judge(task.data)
        assert step == "answer"
        logits = []
        for part in self.parts[self.side(words)]:
            right = np.arange(len(files)) < part * len(files)
            is_cat = np.array([file.parent.name == "cat" for file in files]) == right
            logits.append(np.stack([is_cat, ~is_cat], axis=1).astype(np.float32))
        Answers(("cat", "sea lion"), tuple(logits)).save(task.output)
        return Run(1.0, None, None, "")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    sides = Written({OURS: [0.5, 0.75, 1.0], FASTAI: [0.25, 0.5], LIGHTNING: [0.75]})
    monkeypatch.setattr(module, "run_in_turns", sides.run_in_turns)
    monkeypatch.setattr(module, "run_child", sides.run_child)
    monkeypatch.setattr(Environment, "python", lambda *_: Path("/peers/python"))
    return sides


def test_all_of_it_with_sides_that_are_written_down(images: Path, tmp_path: Path, written: Written) -> None:
    arguments = ["--data", str(images), "--train", "6", "--test", "4", "--seeds", "2", "--work", str(tmp_path)]
    arguments += ["--output", str(tmp_path / "out"), "--speedup", "0", "--", "--views", "1"]
    assert benchmark(arguments) == 0
    # Each seed has its own training images; all sides of a seed have the same, and only toolkit is told more.
    assert written.trained[0] != written.trained[1]
    assert written.tested[0] == written.tested[1]
    assert [task.seed for task in written.tasks[OURS]] == [0, 1]
    for seed in (0, 1):
        assert len({written.tasks[side][seed].data for side in module.MODULES}) == 1
    assert {side: tasks[0].extra for side, tasks in written.tasks.items()} == {
        OURS: ("--views", "1"),
        FASTAI: (),
        LIGHTNING: (),
    }
    result = json.loads((tmp_path / "out" / "peers.json").read_text())
    for each in result["measurements"]["seeds"]:
        assert {side: [accuracy for _, accuracy in each[side]["curve"]] for side in each} == written.parts
    assert result["measurements"]["differences"] == {FASTAI: [0.5, 0.5], LIGHTNING: [0.25, 0.25]}
    page = (tmp_path / "out" / "peers.md").read_text()
    assert "what fastai does" in page
    assert "ImageNet (a package)" in page
    assert str(tmp_path) not in page
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("benchmark-")] == []


def test_a_side_that_cannot_be_judged_ends_it(images: Path, tmp_path: Path, written: Written) -> None:
    task = Task(images, tmp_path, tmp_path, 64, 5, 0, 2)
    commands = [side_command(side, "train", replace(task, output=tmp_path), tmp_path) for side in (OURS,)]
    (tmp_path / "about.json").write_text("{}")
    with pytest.raises(BenchmarkError, match="toolkit marked 0 epochs and answered for 0"):
        outcome_of(OURS, task, Run(1.0, None, None, ""))
    Marks(tmp_path).add(lambda file: file.touch())
    written.parts[OURS] = [0.5]
    written.run_child([*commands[0].words[:3], *task.words("answer")])
    assert outcome_of(OURS, task, Run(1.0, None, None, "")).end.accuracy == 0.5
    (tmp_path / "about.json").write_text('{"accuracy": "0.625"}')
    with pytest.raises(BenchmarkError, match=r"toolkit found 62.50% of the test images right, and here 50.00% are"):
        outcome_of(OURS, task, Run(1.0, None, None, ""))


def test_an_interpreter_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="python is not a file: give the interpreter that has fastai"):
        parse(["--data", str(tmp_path), "--python", str(tmp_path / "python")])
