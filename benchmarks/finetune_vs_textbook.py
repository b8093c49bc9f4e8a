"""The textbook script against ``toolkit finetune --recipe textbook``.

Same images, same initial backbone, same epochs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import textbook
from benchmarks.harness.child import Command
from benchmarks.harness.command_line import images_parser, main, positive, workspace
from benchmarks.harness.figures import difference_interval, spread
from benchmarks.harness.finetuning import finetuning
from benchmarks.harness.report import Claim, Report, finish
from benchmarks.harness.subset import Subset, make_subset
from benchmarks.harness.textbook import Side
from benchmarks.harness.turns import run_in_turns

NAME = "finetune_vs_textbook"
SPEEDUP = 5.0
TURNS = (20.0, 4.0)
"""Seconds of the textbook script and of toolkit, in turn: so both are spread over the same hour, whatever else the
machine does meanwhile."""


def ratios(baseline: Side, ours: Side) -> list[float]:
    """Return how many times less wall time toolkit took, per pair."""
    return [theirs.seconds / own.seconds for theirs, own in zip(baseline.runs, ours.runs, strict=True)]


def claims(baseline: Side, ours: Side, images: int, speedup: float) -> list[Claim]:
    """Judge speed and accuracy."""
    ratio = spread(ratios(baseline, ours))
    pairs = "" if ratio.low == ratio.high else f" (pairs: {ratio.low:.2f}x to {ratio.high:.2f}x)"
    interval = difference_interval(ours.accuracy(), baseline.accuracy(), images)
    points = (
        f"{100 * (ours.accuracy() - baseline.accuracy()):+.1f} points [{100 * interval.low:+.1f}, "
        f"{100 * interval.high:+.1f}]"
    )
    return [
        Claim(f"at least {speedup:g}x less wall time", f"{ratio.median:.2f}x{pairs}", ratio.median >= speedup),
        Claim(
            "accuracy no worse: the 95% interval of the difference does not lie wholly below zero",
            points,
            interval.high >= 0,
        ),
    ]


def toolkit_arguments(data: Path, weights: Path, seed: int, options: argparse.Namespace) -> list[str]:
    """Return what ``toolkit finetune`` is asked to do."""
    arguments = ["--recipe", "textbook", "--data", str(data), "--weights", str(weights), "--seed", str(seed)]
    arguments += [
        "--stage1-epochs",
        str(options.epochs),
        "--stage2-epochs",
        str(options.epochs),
        "--image-size",
        str(options.image_size),
    ]
    return arguments + (["--threads", str(options.threads)] if options.threads else [])


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = images_parser(NAME, __doc__)
    parser.add_argument(
        "--repeat",
        type=positive,
        default=1,
        metavar="PAIRS",
        help="pairs of runs: textbook, toolkit, textbook, toolkit ...",
    )
    textbook.add_claim_options(parser, SPEEDUP)
    textbook.add_options(parser)
    return textbook.with_defaults(parser.parse_args(arguments))


def make_report(options: argparse.Namespace, subset: Subset, weights: str, baseline: Side, ours: Side) -> Report:
    """Put the result into words."""
    return Report(
        name=NAME,
        title="The textbook script against toolkit finetune --recipe textbook",
        settings={
            "data": options.data.resolve().name,
            "train images": subset.train,
            "test images": subset.test,
            "classes": subset.classes,
            "subset": subset.fingerprint,
            "seed": options.seed,
            "pairs": options.repeat,
            "epochs per stage": options.epochs,
            "image size": options.image_size,
            "threads": options.threads or "each side's own choice",
            "initial ResNet-18 of both sides": weights,
        },
        claims=claims(baseline, ours, subset.test, options.speedup),
        tables=[textbook.comparison({"textbook script": baseline, "toolkit finetune": ours}, subset.test)],
        notes=[
            f"The two sides ran in turns of {TURNS[0]:g} and {TURNS[1]:g} seconds, each standing still (SIGSTOP) in "
            "the other's turn. Wall time is "
            "of the whole process, from its start to its end, in its own turns. Of several pairs the median, with "
            "the range.",
            "Every toolkit run began with an empty cache; the files of the images were in the same place for both "
            "sides.",
            "toolkit sets a tenth of the training images aside for validation, which cannot be turned off "
            "(--validation-fraction is above 0): "
            "it trains on the other nine tenths, looks at the validation images after every epoch, and tests the "
            "best weights. "
            "The textbook script trains on all images, and tests the last weights.",
            "The textbook script leaves all BatchNorm layers in training mode, as such scripts do, so that their "
            "statistics follow the new images; "
            "toolkit keeps those of the initial weights.",
            "Accuracy is the mean over the pairs; its intervals take the test images once, whatever the number of "
            "pairs.",
        ],
        measurements={"textbook": baseline.record(), "toolkit": ours.record(), "ratios": ratios(baseline, ours)},
    )


def run_pair(baseline: Side, ours: Side, script: Command, arguments: list[str], work: Path) -> None:
    """Run both sides once, in turns."""
    with finetuning(arguments, work) as prepared:
        theirs, own = run_in_turns([script, prepared.command], TURNS)
        textbook.add_textbook(baseline, theirs)
        textbook.add_toolkit(ours, prepared.read(own))


def benchmark(arguments: Sequence[str]) -> int:
    """Run the pairs and write the report."""
    options = parse(arguments)
    baseline, ours = Side([], []), Side([], [])
    with workspace(options.work) as work:
        subset = make_subset(options.data, work / "data", options.train, options.test, options.seed)
        weights, described = textbook.initial_weights(options.textbook_weights, subset.folder, options.image_size, work)
        for pair in range(options.repeat):
            seed = options.seed + pair
            print(f"pair {pair + 1} of {options.repeat}: the textbook script and, in turn with it,", flush=True)
            script = textbook.textbook_command(subset.folder, weights, seed, options)
            run_pair(baseline, ours, script, toolkit_arguments(subset.folder, weights, seed, options), work)
    return finish(make_report(options, subset, described, baseline, ours), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
