"""All sides train on the same images, in turns, and what each answers afterwards is judged."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.finetuners.side import Step, Task, images_to_judge, read_about, read_answers, read_marks
from benchmarks.harness.child import Command, Run, run_child
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.turns import run_in_turns

OURS, FASTAI, LIGHTNING = "toolkit", "fastai", "Lightning"
PEERS = (FASTAI, LIGHTNING)
MODULES = {OURS: "toolkit_side", FASTAI: "fastai_side", LIGHTNING: "lightning_side"}
TURNS = {OURS: 4.0, FASTAI: 20.0, LIGHTNING: 20.0}
"""Seconds of each side's turn: so all are spread over the same hour, whatever else the machine does meanwhile."""
SAME_ACCURACY = 1e-9
"""How far what the judge finds of toolkit may be from what ``toolkit finetune`` said itself."""
_ROOT = Path(__file__).parents[2]

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Point:
    """Where a side was after an epoch.

    Attributes:
        seconds: of its own turns, from the start of its process.
        accuracy: on the test images, of the weights at that time.
    """

    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Outcome:
    """What one side made of one seed.

    Attributes:
        curve: a point for each epoch, at least one.
        right: which test images it gets right in the end.
        run: its process.
        about: what it says of itself.
    """

    curve: tuple[Point, ...]
    right: Right = field(repr=False)
    run: Run = field(repr=False)
    about: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def end(self) -> Point:
        """Where it was after its last epoch."""
        return self.curve[-1]

    def seconds_to(self, accuracy: float) -> float | None:
        """Return when it first had an accuracy; None if it never had."""
        return next((point.seconds for point in self.curve if point.accuracy >= accuracy), None)


Round = Mapping[str, Outcome]
"""Side to what it made of one seed."""


def side_command(side: str, step: Step, task: Task, python: Path) -> Command:
    """Return how a side is started, toolkit with a cache of its own, which is empty at first."""
    interpreter = sys.executable if side == OURS else str(python)
    return Command(
        [interpreter, "-m", f"benchmarks.finetuners.{MODULES[side]}", *task.words(step)],
        {**_ours_importable(), "TOOLKIT_CACHE": str(task.output / "cache")},
    )


def _ours_importable() -> dict[str, str]:
    """Return the environment in which another interpreter, too, finds the programs of the sides."""
    return {"PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def tasks_of(
    options: argparse.Namespace, extra: Sequence[str], weights: Path, folder: Path, seed: int
) -> dict[str, Task]:
    """Return what each side is to do on the images in a folder."""
    tasks = {}
    for side in MODULES:
        output = folder / side
        output.mkdir()
        tasks[side] = Task(
            data=folder / "data",
            output=output,
            weights=weights,
            image_size=options.image_size,
            epochs=options.epochs,
            seed=seed,
            threads=options.threads,
            extra=tuple(extra) if side == OURS else (),
        )
    return tasks


def measure(tasks: Mapping[str, Task], python: Path) -> dict[str, Outcome]:
    """Let all sides train, in turns, and then judge each."""
    runs = run_in_turns(
        [side_command(side, "train", task, python) for side, task in tasks.items()], [TURNS[side] for side in tasks]
    )
    outcomes = {}
    for (side, task), run in zip(tasks.items(), runs, strict=True):
        answering = side_command(side, "answer", task, python)
        run_child(answering.words, answering.environment)
        outcomes[side] = outcome_of(side, task, run)
        end = outcomes[side].end
        print(f"  {side}: {end.seconds:.1f} s, accuracy {end.accuracy:.2%}", flush=True)
    return outcomes


def outcome_of(side: str, task: Task, run: Run) -> Outcome:
    """Judge what a side answered.

    Raises:
        BenchmarkError: it marked no epoch, did not answer for each, or is said to be more or less accurate than it
            found itself.
    """
    marks, about = read_marks(task.output), read_about(task.output)
    right = read_answers(task.output).right(images_to_judge(task.data)) if marks else []
    if not marks or len(marks) != len(right):
        raise BenchmarkError(f"{side} marked {len(marks)} epochs and answered for {len(right)}: it cannot be judged.")
    curve = tuple(
        Point(run.seconds_until(mark.moment), float(images.mean())) for mark, images in zip(marks, right, strict=True)
    )
    own = about.get("accuracy")
    if own is not None and abs(float(own) - curve[-1].accuracy) > SAME_ACCURACY:
        raise BenchmarkError(
            f"{side} found {float(own):.2%} of the test images right, and here {curve[-1].accuracy:.2%} are: its "
            "weights were not looked at as it does."
        )
    return Outcome(curve, right[-1], run, about)


def initial_weights(folder: Path) -> tuple[Path, str]:
    """Return the file that all sides start from, and what it is."""
    path = folder / "backbone.safetensors"
    # In a process of its own: PyTorch's memory would count in the peaks of everything that this process starts.
    words = [sys.executable, "-m", "benchmarks.finetuners.initial_weights", "--output", str(path)]
    run = run_child(words, _ours_importable())
    return path, run.stdout.splitlines()[-1]
