"""``toolkit finetune`` beside fastai's ``fine_tune`` and a plain Lightning loop: how soon it is where they end.

The same backbone and weights, images and threads, each side with its own defaults, in a process of its own and in
turns. Arguments after ``--`` are passed on to ``toolkit finetune``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.finetuners.side import (
    MODEL,
    Step,
    Task,
    images_to_judge,
    read_about,
    read_answers,
    read_marks,
)
from benchmarks.harness.child import Command, Run, run_child
from benchmarks.harness.command_line import images_parser, main, positive, split_arguments, workspace
from benchmarks.harness.environments import Environment
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import megabytes, percent, spread
from benchmarks.harness.finetuning import passed_on
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.harness.subset import Subset, make_subset
from benchmarks.harness.turns import run_in_turns
from toolkit import provenance
from toolkit.compare.paired import fourfold, paired_interval
from toolkit.compare.ratios import Ratio, paired_ratio
from toolkit.results import Interval

NAME = "peers"
SPEEDUP = 5.0
OURS, FASTAI, LIGHTNING = "toolkit", "fastai", "Lightning"
PEERS = (FASTAI, LIGHTNING)
MODULES = {OURS: "toolkit_side", FASTAI: "fastai_side", LIGHTNING: "lightning_side"}
TURNS = {OURS: 4.0, FASTAI: 20.0, LIGHTNING: 20.0}
"""Seconds of each side's turn: so all are spread over the same hour, whatever else the machine does meanwhile."""
FASTAI_VERSION, LIGHTNING_VERSION = "2.8.12", "2.6.6"
ENVIRONMENT = Environment(
    "fastai and Lightning",
    f"peers-fastai-{FASTAI_VERSION}-lightning-{LIGHTNING_VERSION}",
    (f"fastai=={FASTAI_VERSION}", f"lightning=={LIGHTNING_VERSION}"),
    beside_ours=True,
)
LEVEL = 0.95
SAME_ACCURACY = 1e-9
"""How far what the judge finds of toolkit may be from what ``toolkit finetune`` said itself."""
_ROOT = Path(__file__).parents[1]

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


@dataclass(frozen=True)
class Difference:
    """Accuracy of toolkit minus that of a peer, on the same test images.

    Attributes:
        mean: over the seeds.
        interval: 95%, paired image by image; the images are counted once, whatever the number of seeds.
        each: of every seed.
    """

    mean: float
    interval: Interval
    each: tuple[float, ...]

    def __str__(self) -> str:
        low, high = 100 * self.interval.low, 100 * self.interval.high
        seeds = ", ".join(f"{100 * one:+.2f}" for one in self.each)
        return f"{100 * self.mean:+.2f} points [{low:+.2f}, {high:+.2f}] (seed by seed {seeds})"


def shorter(rounds: Sequence[Round], peer: str) -> Ratio | None:
    """Return how many times sooner toolkit is where a peer ends, over the seeds; None if it is not in every one.

    The interval has 95% where there are seeds enough for it, else the most that so few can have: that of the smallest
    and the largest.
    """
    ours, theirs = [], []
    for each in rounds:
        seconds = each[OURS].seconds_to(each[peer].end.accuracy)
        if seconds is None:
            return None
        ours.append(seconds)
        theirs.append(each[peer].end.seconds)
    return paired_ratio(ours, theirs, level_of(len(rounds)))


def level_of(seeds: int) -> float:
    """Return the confidence level that an interval over so many seeds has."""
    return min(LEVEL, 1 - 2.0 ** (1 - seeds))


def difference(rounds: Sequence[Round], peer: str) -> Difference:
    """Return how much more accurate toolkit is in the end."""
    counts = np.array([fourfold(each[peer].right, each[OURS].right) for each in rounds])
    images = int(counts[0].sum())
    _, lost, won, neither = (round(float(count)) for count in counts.mean(axis=0))
    each = (counts[:, 2] - counts[:, 1]) / images
    return Difference(
        mean=float(each.mean()),
        interval=paired_interval(max(0, images - lost - won - neither), won, lost, neither),
        each=tuple(map(float, each)),
    )


def claims(rounds: Sequence[Round], speedup: float) -> list[Claim]:
    """Judge time and accuracy beside each peer."""
    made = []
    for peer in PEERS:
        ratio, apart = shorter(rounds, peer), difference(rounds, peer)
        made += [
            Claim(
                f"the time to the accuracy at which {peer} ends is at least {speedup:g}x shorter",
                "toolkit does not reach it in every seed" if ratio is None else _times(ratio, len(rounds)),
                ratio is not None and ratio.ratio >= speedup,
            ),
            Claim(
                f"final accuracy no worse than that of {peer}: the 95% interval of the difference does not lie wholly "
                "below zero",
                str(apart),
                apart.interval.high >= 0,
            ),
        ]
    return made


def _times(ratio: Ratio, seeds: int) -> str:
    if ratio.interval is None or seeds == 1:
        return f"{ratio.ratio:.2f}x (of one seed)"
    interval = f"[{ratio.interval.low:.2f}, {ratio.interval.high:.2f}]"
    return f"{ratio.ratio:.2f}x {interval} ({ratio.interval.level:.0%} over {seeds} seeds)"


def tables(rounds: Sequence[Round]) -> list[Table]:
    """Write out the sides, each seed, and the curves."""
    images = len(rounds[0][OURS].right)
    sides = [
        (
            side,
            str(spread([each[side].end.seconds for each in rounds])),
            str(spread([each[side].run.seconds for each in rounds])),
            percent(statistics.fmean(each[side].end.accuracy for each in rounds), images),
            megabytes(*(each[side].run.peak_bytes for each in rounds)),
            megabytes(*(each[side].run.tree_bytes for each in rounds)),
        )
        for side in MODULES
    ]
    reached = [
        (str(seed), peer, f"{each[peer].end.accuracy:.2%}", f"{each[peer].end.seconds:.1f}", *_reached(each, peer))
        for seed, each in enumerate(rounds)
        for peer in PEERS
    ]
    curves = [
        (str(seed), side, ", ".join(f"{point.seconds:.0f} s {point.accuracy:.1%}" for point in each[side].curve))
        for seed, each in enumerate(rounds)
        for side in MODULES
    ]
    return [
        Table(
            (
                "side",
                "to the end of the last epoch, s",
                "whole process, s",
                "test accuracy [95%]",
                "peak of the largest process, MB",
                "all processes, anonymous, MB",
            ),
            sides,
        ),
        Table(("seed", "peer", "ends at", "after, s", "toolkit is there after, s", "times shorter"), reached),
        Table(("seed", "side", "after each epoch"), curves),
    ]


def _reached(each: Round, peer: str) -> tuple[str, str]:
    seconds = each[OURS].seconds_to(each[peer].end.accuracy)
    if seconds is None:
        return f"never: at most {max(point.accuracy for point in each[OURS].curve):.2%}", "-"
    return f"{seconds:.1f}", f"{each[peer].end.seconds / seconds:.2f}x"


def make_report(options: argparse.Namespace, settings: Mapping[str, Any], rounds: Sequence[Round]) -> Report:
    """Put the result into words."""
    about = {side: rounds[0][side].about for side in MODULES}
    return Report(
        name=NAME,
        title="toolkit finetune beside fastai and Lightning",
        settings={
            **settings,
            **{f"{side}: did": about[side].get("did", "") for side in MODULES},
            **{f"{side}: versions": about[side].get("versions", "") for side in MODULES},
        },
        claims=claims(rounds, options.speedup),
        tables=tables(rounds),
        notes=[
            f"All sides start from the same ImageNet weights of {MODEL}, run with the same number of threads, and took "
            f"turns of {', '.join(f'{TURNS[side]:g}' for side in MODULES)} seconds ({', '.join(MODULES)}), each "
            "standing still (SIGSTOP) in the turns of the others. Seconds are of a side's own turns, from the start of "
            "its process, imports included.",
            "After every epoch a side writes its weights and the time; they look at the test images afterwards, in "
            "another process, so that this costs no side any of its time. fastai's own look at its validation images "
            "after each epoch is left out, too. toolkit's, a tenth of the training images, is counted: it chooses the "
            "weights that are kept. Both peers train on all training images.",
            "The weights of toolkit at a time are those that it would keep if it ended there. Its times are those of "
            "its epochs; what it does after the last one (the test images, which mistakes to review, pictures) is in "
            "the column of the whole process alone.",
            "Every side predicts with its own preprocessing; which class has the largest logit is held against the "
            "folder that the image lies in. All seeds have the same test images and other training images.",
            "Intervals of the times are those of the signed-rank test on the seeds' logarithms; those of the "
            "differences are paired by image (Newcombe 1998, method 10) and take the test images once. They hold for "
            "the networks that were trained; the seeds say how far others may lie from them.",
            "A curve that looks at the test images after every epoch finds its first point above a line a little "
            "early, by chance; that the peer's line is where it happens to end is chance, too.",
        ],
        measurements={
            "seeds": [
                {
                    side: {
                        "curve": [[point.seconds, point.accuracy] for point in each[side].curve],
                        "seconds": each[side].run.seconds,
                        "peak_bytes": each[side].run.peak_bytes,
                        "tree_bytes": each[side].run.tree_bytes,
                    }
                    for side in MODULES
                }
                for each in rounds
            ],
            "differences": {peer: list(difference(rounds, peer).each) for peer in PEERS},
        },
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: the interpreter of the peers does not exist.
    """
    parser = images_parser(NAME, __doc__)
    parser.add_argument("--train", type=positive, default=5000, metavar="N", help="training images, drawn by each seed")
    parser.add_argument("--test", type=positive, default=10_000, metavar="M", help="test images, the same for all")
    parser.add_argument("--image-size", type=positive, default=128, metavar="PIXELS")
    parser.add_argument("--epochs", type=positive, default=5, help="of both peers, after one with the backbone frozen")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--threads", type=positive, default=provenance.default_threads(), help="of each side")
    parser.add_argument("--speedup", type=float, default=SPEEDUP, help="what is claimed")
    parser.add_argument(
        "--python",
        type=Path,
        metavar="FILE",
        help="an interpreter that has fastai, Lightning, timm and numpy (default: that of an environment that is made "
        "once, in the cache folder of toolkit; some 100 MB from PyPI)",
    )
    options = parser.parse_args(arguments)
    if options.python is not None and not options.python.is_file():
        raise BenchmarkError(f"{options.python} is not a file: give the interpreter that has fastai and Lightning.")
    return options


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


def settings_of(
    options: argparse.Namespace, extra: Sequence[str], weights: str, drawn: Sequence[Subset]
) -> dict[str, Any]:
    """Return what a report says of how it was measured."""
    return {
        "data": options.data.resolve().name,
        "train images": options.train,
        "test images": options.test,
        "classes": drawn[0].classes,
        "subsets": ", ".join(subset.fingerprint[:16] for subset in drawn),
        "image size": options.image_size,
        "threads": options.threads,
        "backbone of all sides": MODEL,
        "initial weights of all sides": weights,
        "passed on": passed_on(extra),
    }


def benchmark(arguments: Sequence[str]) -> int:
    """Run all sides with every seed and write the report."""
    own, extra = split_arguments(arguments)
    options = parse(own)
    python = options.python.absolute() if options.python else ENVIRONMENT.python()
    rounds: list[dict[str, Outcome]] = []
    drawn: list[Subset] = []
    with workspace(options.work) as work:
        weights, described = initial_weights(work)
        for seed in range(options.seeds):
            folder = work / f"seed-{seed}"
            drawn.append(make_subset(options.data, folder / "data", options.train, options.test, seed, test_seed=0))
            print(f"seed {seed + 1} of {options.seeds}: {', '.join(MODULES)} in turns ...", flush=True)
            rounds.append(measure(tasks_of(options, extra, weights, folder, seed), python))
            shutil.rmtree(folder)
    settings = settings_of(options, extra, described, drawn)
    return finish(make_report(options, settings, rounds), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
