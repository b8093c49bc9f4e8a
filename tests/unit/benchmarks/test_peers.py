"""The whole of it, with sides that are written down."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.finetuners import arena
from benchmarks.finetuners.arena import FASTAI, LIGHTNING, MODULES, OURS
from benchmarks.finetuners.side import Answers, Marks, Task, images_to_judge, read_task
from benchmarks.harness.child import Command, Run
from benchmarks.harness.environments import Environment
from benchmarks.harness.errors import BenchmarkError
from benchmarks.peers import benchmark, parse


class Written:
    """Sides whose marks and answers are written down: after each epoch a further part of the images is right."""

    def __init__(self, parts: dict[str, list[float]]) -> None:
        self.parts = parts
        self.tasks: dict[str, list[Task]] = {side: [] for side in MODULES}
        self.trained: list[list[str]] = []
        self.tested: list[list[str]] = []

    def side(self, words: Sequence[str]) -> str:
        return next(side for side, name in MODULES.items() if words[2].endswith(name))

    def run_in_turns(self, commands: Sequence[Command], turns: Sequence[float]) -> list[Run]:
        assert len(commands) == len(turns) == len(MODULES)
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
    monkeypatch.setattr(arena, "run_in_turns", sides.run_in_turns)
    monkeypatch.setattr(arena, "run_child", sides.run_child)
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
        assert len({written.tasks[side][seed].data for side in MODULES}) == 1
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


def test_an_interpreter_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="python is not a file: give the interpreter that has fastai"):
        parse(["--data", str(tmp_path), "--python", str(tmp_path / "python")])
