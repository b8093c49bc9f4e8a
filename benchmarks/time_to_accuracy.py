"""Wall time of a ``toolkit finetune`` that reaches the accuracy of the textbook script; arguments after ``--`` are passed on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import common
from common import BenchmarkError, Claim, Finetuned, Report, Table

NAME = "time_to_accuracy"
SPEEDUP = 15.0


@dataclass(frozen=True)
class Textbook:
    """The textbook side of a result of ``finetune_vs_textbook``, and the subset that it was measured on."""

    accuracy: float
    seconds: float
    train: int
    test: int
    seed: int
    subset: str
    weights: str
    image_size: int


def read_textbook(path: Path) -> Textbook:
    """Read ``finetune_vs_textbook.json``.

    Raises:
        BenchmarkError: it is missing, or not such a file.
    """
    try:
        content = json.loads(common.existing_file(path).read_text(encoding="utf-8"))
        side, settings = content["measurements"]["textbook"], content["settings"]
        return Textbook(
            accuracy=float(side["accuracy"]),
            seconds=float(side["seconds"]),
            train=int(settings["train images"]),
            test=int(settings["test images"]),
            seed=int(settings["seed"]),
            subset=str(settings["subset"]),
            weights=str(settings["initial ResNet-18 of both sides"]),
            image_size=int(settings["image size"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path} is not a result of finetune_vs_textbook: give the finetune_vs_textbook.json that it wrote.") from error


def claims(textbook: Textbook, results: Sequence[Finetuned], speedup: float) -> list[Claim]:
    """Judge accuracy, which every run must reach, and the median time."""
    lowest = min(result.accuracy for result in results)
    ratio = textbook.seconds / common.spread([result.run.seconds for result in results]).median
    return [
        Claim(f"every run reaches the test accuracy of the textbook script, {textbook.accuracy:.1%}", f"{lowest:.1%}", lowest >= textbook.accuracy),
        Claim(f"at least {speedup:g}x less wall time", f"{ratio:.2f}x", ratio >= speedup),
    ]


def benchmark(arguments: Sequence[str]) -> int:
    """Run on the subset of the textbook script and write the report."""
    own, extra = common.split_arguments(arguments)
    parser = common.parser(__doc__)
    parser.add_argument(
        "--textbook-result", type=Path, default=common.RESULTS / "finetune_vs_textbook.json", metavar="FILE", help="JSON of finetune_vs_textbook"
    )
    parser.add_argument("--repeat", type=common.positive, default=1, metavar="RUNS")
    parser.add_argument("--speedup", type=float, default=SPEEDUP, help="what is claimed")
    options = parser.parse_args(own)
    textbook = read_textbook(options.textbook_result)
    with common.workspace(options.work) as work:
        subset = common.make_subset(options.data, work / "data", textbook.train, textbook.test, textbook.seed)
        if subset.fingerprint != textbook.subset:
            raise BenchmarkError(f"{options.data} does not give the subset that the textbook script was measured on: give the same --data as then.")
        results = [common.finetune(["--data", str(subset.folder), *extra], work) for _ in range(options.repeat)]
    accuracies = [result.accuracy for result in results]
    seconds = [result.run.seconds for result in results]
    rows = [
        ("textbook script", f"{textbook.seconds:.1f}", common.percent(textbook.accuracy, textbook.test)),
        ("toolkit finetune", str(common.spread(seconds)), common.percent(sum(accuracies) / len(accuracies), textbook.test)),
    ]
    report = Report(
        name=NAME,
        title="Wall time to the accuracy of the textbook script",
        settings={
            "data": options.data.resolve().name,
            "train images": subset.train,
            "test images": subset.test,
            "subset": subset.fingerprint,
            "seed of the subset": textbook.seed,
            "runs": options.repeat,
            "passed on": shlex.join(map(common.shown, extra)) or "nothing",
            "textbook: backbone": f"resnet18 at {textbook.image_size} px",
            "textbook: initial weights": textbook.weights,
            "toolkit: backbone": results[0].backbone,
            "toolkit: initial weights": results[0].weights,
            "toolkit: recipe": results[0].recipe,
            "toolkit: threads": results[0].threads,
        },
        claims=claims(textbook, results, options.speedup),
        tables=[Table(("side", "wall time, s", "test accuracy [95%]"), rows)],
        notes=[
            "The two sides differ in what they train, as the settings say: the claim is about the time to an accuracy, not about the same work.",
            "The time of the textbook script is taken from its own result; the toolkit runs are whole processes, each with an empty cache.",
        ],
        measurements={"textbook": {"accuracy": textbook.accuracy, "seconds": textbook.seconds}, "accuracies": accuracies, "seconds_each": seconds},
    )
    return common.finish(report, options.output, arguments)


if __name__ == "__main__":
    common.main(benchmark)
