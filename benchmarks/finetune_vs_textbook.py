"""The textbook script against ``toolkit finetune --recipe textbook``: same images, same initial backbone, same epochs."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
from common import Claim, Report, Run, Table

NAME = "finetune_vs_textbook"
SPEEDUP = 5.0
SCRIPT = common.HERE / "textbook_script.py"


@dataclass(frozen=True)
class Side:
    """The runs of one side, in order."""

    runs: list[Run]
    accuracies: list[float]

    def seconds(self) -> float:
        """Return the median wall time."""
        return statistics.median(run.seconds for run in self.runs)

    def accuracy(self) -> float:
        """Return the mean test accuracy."""
        return statistics.fmean(self.accuracies)

    def record(self) -> dict[str, Any]:
        """Return what the JSON report says of this side."""
        return {
            "accuracy": self.accuracy(),
            "accuracies": self.accuracies,
            "seconds": self.seconds(),
            "seconds_each": [run.seconds for run in self.runs],
            "peak_bytes_each": [run.peak_bytes for run in self.runs],
            "tree_bytes_each": [run.tree_bytes for run in self.runs],
        }


def claims(textbook: Side, ours: Side, images: int, speedup: float) -> list[Claim]:
    """Judge speed and accuracy."""
    ratio = textbook.seconds() / ours.seconds()
    interval = common.difference_interval(ours.accuracy(), textbook.accuracy(), images)
    points = f"{100 * (ours.accuracy() - textbook.accuracy()):+.1f} points [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return [
        Claim(f"at least {speedup:g}x less wall time", f"{ratio:.2f}x", ratio >= speedup),
        Claim("accuracy no worse: the 95% interval of the difference does not lie wholly below zero", points, interval.high >= 0),
    ]


def random_weights(path: Path) -> None:
    """Save a ResNet-18 as torchvision initialises it after ``torch.manual_seed(0)``."""
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18(weights=None).state_dict(), path)


def run_textbook(data: Path, weights: Path, seed: int, options: argparse.Namespace) -> tuple[Run, float, Mapping[str, Any]]:
    """Run the baseline once."""
    command = [sys.executable, str(SCRIPT), "--data", str(data), "--weights", str(weights), "--seed", str(seed)]
    command += ["--epochs1", str(options.epochs), "--epochs2", str(options.epochs), "--image-size", str(options.image_size)]
    command += ["--threads", str(options.threads)] if options.threads else []
    run = common.run_child(command)
    result = json.loads(run.stdout.splitlines()[-1])
    return run, result["accuracy"], result


def run_toolkit(data: Path, weights: Path, seed: int, options: argparse.Namespace, work: Path) -> tuple[Run, float]:
    """Run toolkit once, with an empty cache."""
    arguments = ["--recipe", "textbook", "--data", str(data), "--weights", str(weights), "--seed", str(seed)]
    arguments += ["--stage1-epochs", str(options.epochs), "--stage2-epochs", str(options.epochs), "--image-size", str(options.image_size)]
    arguments += ["--threads", str(options.threads)] if options.threads else []
    result = common.finetune(arguments, work)
    return result.run, result.accuracy


def table(sides: Mapping[str, Side], images: int) -> Table:
    """Return the comparison."""
    rows = [
        (
            name,
            str(common.spread([run.seconds for run in side.runs])),
            common.percent(side.accuracy(), images),
            common.megabytes(max((run.peak_bytes for run in side.runs if run.peak_bytes is not None), default=None)),
            common.megabytes(max((run.tree_bytes for run in side.runs if run.tree_bytes is not None), default=None)),
        )
        for name, side in sides.items()
    ]
    return Table(("side", "wall time, s", "test accuracy [95%]", "peak memory of the process, MB", "with its workers, anonymous, MB"), rows)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = common.parser(__doc__)
    parser.add_argument("--train", type=common.positive, default=2000, metavar="N", help="training images")
    parser.add_argument("--test", type=common.positive, default=1000, metavar="M", help="test images")
    parser.add_argument("--seed", type=int, default=0, help="of the subset and of the first pair; each further pair takes the next one")
    parser.add_argument("--repeat", type=common.positive, default=1, metavar="PAIRS", help="pairs of runs, in alternating order")
    parser.add_argument("--epochs", type=common.positive, default=10, metavar="E", help="epochs of each of the two stages")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="safetensors file of a ResNet-18 (default: random)")
    parser.add_argument("--image-size", type=common.positive, default=224, metavar="PIXELS")
    parser.add_argument("--threads", type=common.positive, help="CPU threads of both sides (default: each side's own choice)")
    parser.add_argument("--speedup", type=float, default=SPEEDUP, help="what is claimed")
    return parser.parse_args(arguments)


def benchmark(arguments: Sequence[str]) -> int:
    """Run the pairs and write the report."""
    options = parse(arguments)
    textbook, ours = Side([], []), Side([], [])
    stages: list[Mapping[str, Any]] = []
    with common.workspace(options.work) as work:
        subset = common.make_subset(options.data, work / "data", options.train, options.test, options.seed)
        if options.weights:
            weights = common.existing_file(options.weights)
            described = common.weights_description(weights)
        else:
            weights = work / "resnet18.safetensors"
            random_weights(weights)
            described = "random (torchvision's initialisation after torch.manual_seed(0)), not pretrained"
        for pair in range(options.repeat):
            for side in ("textbook", "toolkit") if pair % 2 == 0 else ("toolkit", "textbook"):
                print(f"pair {pair + 1} of {options.repeat}: {side} ...", flush=True)
                if side == "textbook":
                    run, accuracy, stage = run_textbook(subset.folder, weights, options.seed + pair, options)
                    stages.append(stage)
                    textbook.runs.append(run)
                    textbook.accuracies.append(accuracy)
                else:
                    run, accuracy = run_toolkit(subset.folder, weights, options.seed + pair, options, work)
                    ours.runs.append(run)
                    ours.accuracies.append(accuracy)
                print(f"  {run.seconds:.1f} s, accuracy {accuracy:.1%}", flush=True)
    report = Report(
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
            "initial ResNet-18 of both sides": described,
        },
        claims=claims(textbook, ours, subset.test, options.speedup),
        tables=[table({"textbook script": textbook, "toolkit finetune": ours}, subset.test)],
        notes=[
            "Wall time is of the whole process, from its start to its end; of several pairs the median, with the range.",
            "Every toolkit run began with an empty cache; the files of the images were in the same place for both sides.",
            "toolkit sets a tenth of the training images aside for validation, trains on the other nine tenths, looks at the validation images "
            "after every epoch, and tests the best weights; the textbook script trains on all images and tests the last weights.",
            "The textbook script leaves all BatchNorm layers in training mode, as such scripts do, so that their statistics follow the new images; "
            "toolkit keeps those of the initial weights. With random weights these are no statistics of anything, and accuracy says little.",
            "Accuracy is the mean over the pairs; its intervals take the test images once, whatever the number of pairs.",
        ],
        measurements={"textbook": {**textbook.record(), "runs": stages}, "toolkit": ours.record()},
    )
    return common.finish(report, options.output, arguments)


if __name__ == "__main__":
    common.main(benchmark)
