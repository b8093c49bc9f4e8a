"""What the sides have in common: how each is asked, what it notes after every epoch, and what it answers afterwards.

A side is started twice. Asked to ``train`` it keeps the weights of every epoch and notes the moment; asked to
``answer`` it gives the logits of the test images with each of them. So no test image costs the training time. Nothing
of toolkit is imported here: peers run in a Python of their own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

MODEL = "tf_efficientnet_lite0"
"""The backbone of all sides, as timm calls it."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_MARKS, _ANSWERS, _ABOUT = "marks.jsonl", "answers.npz", "about.json"

Step: TypeAlias = Literal["train", "answer"]
Logits: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """What every side is asked to do.

    Attributes:
        data: ``train/<class>/`` and ``test/<class>/``.
        output: where it leaves what it makes; exists.
        weights: of the backbone, trained on ImageNet, under timm's names, in a ``.safetensors`` file.
        image_size: side of the input in pixels.
        epochs: of a peer, after one in which the backbone is frozen.
        seed: of everything that is drawn.
        threads: that compute.
        extra: arguments for ``toolkit finetune``.
    """

    data: Path
    output: Path
    weights: Path
    image_size: int
    epochs: int
    seed: int
    threads: int
    extra: tuple[str, ...] = ()

    def words(self, step: Step) -> list[str]:
        """Return the arguments of a side's program."""
        words = ["--step", step]
        for field in fields(self)[:-1]:
            words += [f"--{field.name.replace('_', '-')}", str(getattr(self, field.name))]
        return [*words, "--", *self.extra]


def read_task(arguments: Sequence[str]) -> tuple[Step, Task]:
    """Read what ``Task.words`` wrote."""
    at = list(arguments).index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("--step", required=True, choices=("train", "answer"))
    for name in ("--data", "--output", "--weights"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--image-size", "--epochs", "--seed", "--threads"):
        parser.add_argument(name, type=int, required=True)
    values = vars(parser.parse_args(arguments[:at]))
    return values.pop("step"), Task(**values, extra=tuple(arguments[at + 1 :]))


@dataclass(frozen=True)
class Mark:
    """The end of an epoch.

    Attributes:
        moment: by ``time.monotonic``, once the weights were written.
        weights: the file.
    """

    moment: float
    weights: Path


class Marks:
    """Notes of a training, written while it goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def add(self, keep: Callable[[Path], object]) -> None:
        """Keep the weights as they are now; ``keep`` writes them to a file."""
        self._count += 1
        file = self._folder / f"epoch-{self._count}.pt"
        keep(file)
        with (self._folder / _MARKS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"moment": time.monotonic(), "weights": file.name}) + "\n")


def read_marks(folder: Path) -> list[Mark]:
    """Return what a side noted, in the order of the epochs; empty where it noted nothing."""
    lines = (folder / _MARKS).read_text(encoding="utf-8").splitlines() if (folder / _MARKS).exists() else []
    notes = [json.loads(line) for line in lines]
    return [Mark(float(note["moment"]), folder / note["weights"]) for note in notes]


def images_to_judge(data: Path) -> list[Path]:
    """Return the test images, in the order in which all sides answer."""
    return sorted(file for file in (data / "test").glob("*/*") if file.suffix.lower() in IMAGE_SUFFIXES)


@dataclass(frozen=True)
class Answers:
    """What a side says of the test images.

    Attributes:
        classes: names, in the order of its logits.
        logits: after each epoch, float32 ``[n, C]`` in the order of ``images_to_judge``.
    """

    classes: tuple[str, ...]
    logits: tuple[Logits, ...]

    def save(self, folder: Path) -> None:
        """Write them where ``read_answers`` looks."""
        np.savez(folder / _ANSWERS, classes=np.array(self.classes), logits=np.stack(self.logits))

    def right(self, files: Sequence[Path]) -> list[npt.NDArray[np.bool_]]:
        """Return which images get the class whose folder they lie in, after each epoch: the judge of all sides."""
        expected = np.array([file.parent.name for file in files])
        return [np.array(self.classes)[logits.argmax(axis=1)] == expected for logits in self.logits]


def read_answers(folder: Path) -> Answers:
    """Read what a side answered."""
    with np.load(folder / _ANSWERS, allow_pickle=False) as arrays:
        return Answers(tuple(map(str, arrays["classes"])), tuple(arrays["logits"]))


def read_about(folder: Path) -> dict[str, str]:
    """Read what a side said of itself: versions and what it did."""
    about: dict[str, str] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    return about


def run_side(
    arguments: Sequence[str],
    train: Callable[[Task, Marks], Mapping[str, str]],
    answer: Callable[[Task, Sequence[Path], Sequence[Path]], Answers],
) -> None:
    """Be the program of a side.

    Args:
        arguments: of the process.
        train: trains and marks every epoch; returns what is to be said of it.
        answer: returns the logits of the test images, given these and the files of weights.
    """
    step, task = read_task(arguments)
    if step == "train":
        about = train(task, Marks(task.output))
        (task.output / _ABOUT).write_text(json.dumps(dict(about)), encoding="utf-8")
    else:
        kept = [mark.weights for mark in read_marks(task.output)]
        answer(task, images_to_judge(task.data), kept).save(task.output)
