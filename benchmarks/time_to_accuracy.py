"""Wall time of a ``toolkit finetune`` that reaches the accuracy of the textbook script.

Arguments after ``--`` are passed on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import textbook
from benchmarks.harness.child import run_child
from benchmarks.harness.command_line import existing_file, images_parser, main, positive, split_arguments, workspace
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import megabytes, percent, spread
from benchmarks.harness.finetuning import Finetuned, finetune, passed_on
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.harness.subset import Subset, make_subset
from benchmarks.harness.textbook import Side
from toolkit import provenance

NAME = "time_to_accuracy"
SPEEDUP = 15.0


@dataclass(frozen=True)
class Textbook:
    """What the textbook script achieved, and on what."""

    accuracy: float
    seconds: float
    train: int
    test: int
    seed: int
    subset: str
    weights: str
    image_size: int
    origin: str
    """Whether it ran now, or when its result was measured."""


def read_textbook(path: Path) -> Textbook:
    """Read ``finetune_vs_textbook.json``.

    Raises:
        BenchmarkError: it is missing, not such a file, or from another machine.
    """
    try:
        content = json.loads(existing_file(path).read_text(encoding="utf-8"))
        side, settings, origin = content["measurements"]["textbook"], content["settings"], content["provenance"]
        machine = (str(origin["hardware"]["processor"]), int(origin["hardware"]["cores"]))
        result = Textbook(
            accuracy=float(side["accuracy"]),
            seconds=float(side["seconds"]),
            train=int(settings["train images"]),
            test=int(settings["test images"]),
            seed=int(settings["seed"]),
            subset=str(settings["subset"]),
            weights=str(settings["initial ResNet-18 of both sides"]),
            image_size=int(settings["image size"]),
            origin=f"taken from {path.name}, measured {origin['created']}",
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(
            f"{path} is not a result of finetune_vs_textbook: give the finetune_vs_textbook.json that it wrote."
        ) from error
    here = provenance.hardware()
    if machine != (here.processor, here.cores):
        raise BenchmarkError(
            f"{path} was measured on {machine[1]} cores of {machine[0]}, this machine has {here.cores} of "
            f"{here.processor}: "
            "run finetune_vs_textbook here, or leave --textbook-result out."
        )
    return result


def claims(target: Textbook, results: Sequence[Finetuned], speedup: float) -> list[Claim]:
    """Judge accuracy, which every run must reach, and the median time."""
    lowest = min(result.accuracy for result in results)
    ratio = target.seconds / spread([result.run.seconds for result in results]).median
    return [
        Claim(
            f"every run reaches the test accuracy of the textbook script, {target.accuracy:.1%}",
            f"{lowest:.1%}",
            lowest >= target.accuracy,
        ),
        Claim(f"at least {speedup:g}x less wall time", f"{ratio:.2f}x", ratio >= speedup),
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: options of the textbook script are given together with its result.
    """
    parser = images_parser(NAME, __doc__)
    parser.add_argument(
        "--textbook-result",
        type=Path,
        default=None,
        metavar="FILE",
        help="JSON of finetune_vs_textbook, instead of a run",
    )
    parser.add_argument("--repeat", type=positive, default=1, metavar="RUNS")
    textbook.add_claim_options(parser, SPEEDUP)
    parser.add_argument("--recipe", default="cifar10", help="of toolkit")
    parser.add_argument("--backbone", help="of toolkit (default: the recipe's)")
    parser.add_argument("--weights", help="of toolkit: default, none or a file (default: the recipe's)")
    textbook.add_options(parser, weights="--textbook-weights")
    options = parser.parse_args(arguments)
    if options.textbook_result is not None and textbook.given(options):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in textbook.given(options))
        raise BenchmarkError(
            f"{named} cannot be given with --textbook-result, whose result was measured with its own: leave out one "
            "or the other."
        )
    return textbook.with_defaults(options)


def toolkit_arguments(data: Path, options: argparse.Namespace, extra: Sequence[str]) -> list[str]:
    """Return what ``toolkit finetune`` is asked to do."""
    arguments = ["--recipe", options.recipe, "--data", str(data)]
    for name in ("backbone", "weights", "threads"):
        value = getattr(options, name)
        arguments += [f"--{name}", str(value)] if value is not None else []
    return [*arguments, *extra]


def measure_textbook(side: Side, subset: Subset, described: str, options: argparse.Namespace) -> Textbook:
    """Return the target that the runs of this side set."""
    return Textbook(
        accuracy=side.accuracy(),
        seconds=side.seconds(),
        train=subset.train,
        test=subset.test,
        seed=options.seed,
        subset=subset.fingerprint,
        weights=described,
        image_size=options.image_size,
        origin="measured with the others, in turn with them",
    )


def start_of(weights: str | None, told: str) -> str:
    """Return what toolkit started from.

    A file is described as the one of the textbook script is, anything else as toolkit told.
    """
    path = Path(weights) if weights else None
    return textbook.weights_description(path) if path and path.is_file() else told


def unequal_start(theirs: str, ours: str) -> list[str]:
    """Return a warning where the textbook script alone began with random weights.

    Its accuracy is then an easy target.
    """
    if not theirs.startswith("random") or ours.startswith("random"):
        return []
    return [
        "**Unequal start**: the textbook script began with random weights, toolkit with pretrained ones. With "
        "pretrained weights the script would "
        "reach a higher accuracy, so this result says nothing about the claim: give pretrained ones to the script "
        "(--textbook-weights)."
    ]


def make_report(
    options: argparse.Namespace, extra: Sequence[str], target: Textbook, results: Sequence[Finetuned]
) -> Report:
    """Put the result into words."""
    accuracies = [result.accuracy for result in results]
    seconds = [result.run.seconds for result in results]
    peaks = [result.run.peak_bytes for result in results]
    rows = [
        ("textbook script", f"{target.seconds:.1f}", percent(target.accuracy, target.test), ""),
        (
            "toolkit finetune",
            str(spread(seconds)),
            percent(sum(accuracies) / len(accuracies), target.test),
            megabytes(*peaks),
        ),
    ]
    start = start_of(options.weights, results[0].weights)
    return Report(
        name=NAME,
        title="Wall time to the accuracy of the textbook script",
        settings={
            "data": options.data.resolve().name,
            "train images": target.train,
            "test images": target.test,
            "subset": target.subset,
            "seed": target.seed,
            "runs": options.repeat,
            "passed on": passed_on(extra),
            "textbook: backbone": f"resnet18 at {target.image_size} px",
            "textbook: initial weights": target.weights,
            "textbook: result": target.origin,
            "toolkit: backbone": results[0].backbone,
            "toolkit: initial weights": start,
            "toolkit: recipe": results[0].recipe,
            "toolkit: threads": results[0].threads,
        },
        claims=claims(target, results, options.speedup),
        tables=[Table(("side", "wall time, s", "test accuracy [95%]", "peak of the largest process, MB"), rows)],
        notes=[
            *unequal_start(target.weights, start),
            "The two sides differ in what they train, as the settings say: the claim is about the time to an "
            "accuracy, not about the same work.",
            "The time of toolkit is that of its whole process, also where it reaches the accuracy earlier; each run "
            "began with an empty cache.",
            "The accuracies are compared as they are; the intervals say how far another draw of as many test images "
            "might move them.",
        ],
        measurements={
            "textbook": {"accuracy": target.accuracy, "seconds": target.seconds},
            "accuracies": accuracies,
            "seconds_each": seconds,
            "peak_bytes_each": peaks,
        },
    )


def benchmark(arguments: Sequence[str]) -> int:
    """Run on one subset, the textbook script too where its result is not given, and write the report."""
    own, extra = split_arguments(arguments)
    options = parse(own)
    known = read_textbook(options.textbook_result) if options.textbook_result else None
    baseline, ours = Side([], []), Side([], [])
    with workspace(options.work) as work:
        train, test, seed = (
            (known.train, known.test, known.seed) if known else (options.train, options.test, options.seed)
        )
        subset = make_subset(options.data, work / "data", train, test, seed)
        if known and subset.fingerprint != known.subset:
            raise BenchmarkError(
                f"{options.data} does not give the subset that the textbook script was measured on: give the same "
                "--data as then."
            )
        weights, described = None, ""
        if known is None:
            weights, described = textbook.initial_weights(
                options.textbook_weights, subset.folder, options.image_size, work
            )
        results = []
        for run in range(options.repeat):
            if weights is not None:
                print(f"run {run + 1} of {options.repeat}: textbook script ...", flush=True)
                textbook.add_textbook(
                    baseline, run_child(textbook.textbook_command(subset.folder, weights, seed + run, options).words)
                )
            results.append(finetune(toolkit_arguments(subset.folder, options, extra), work))
            textbook.add_toolkit(ours, results[-1])
    target = known or measure_textbook(baseline, subset, described, options)
    return finish(make_report(options, extra, target, results), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
