"""The textbook script as the side that toolkit is compared with.

Its options, the weights it starts from, one measured run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.child import Command, Run, run_child
from benchmarks.harness.command_line import existing_file, positive
from benchmarks.harness.figures import megabytes, percent, spread
from benchmarks.harness.finetuning import Finetuned
from benchmarks.harness.report import Table
from toolkit.files import sha256_file

PACKAGE = Path(__file__).parents[1]
SCRIPT = PACKAGE / "textbook_script.py"
"""Run by its path, so that it imports nothing of this package."""
RANDOM_WEIGHTS = PACKAGE / "random_weights.py"
DEFAULTS: Mapping[str, Any] = {
    "train": 2000,
    "test": 1000,
    "seed": 0,
    "epochs": 10,
    "image_size": 224,
    "textbook_weights": None,
}


@dataclass(frozen=True)
class Side:
    """The runs of one side, in order."""

    runs: list[Run]
    accuracies: list[float]
    results: list[Mapping[str, Any]] = field(default_factory=list)
    """What the textbook script printed, per run; empty for the other side."""

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
            "results": self.results,
        }


def add_claim_options(parser: argparse.ArgumentParser, speedup: float) -> None:
    """Add what both comparisons with the textbook script can be told."""
    parser.add_argument("--threads", type=positive, help="CPU threads of both sides (default: each side's own choice)")
    parser.add_argument("--speedup", type=float, default=speedup, help="what is claimed")


def add_options(parser: argparse.ArgumentParser, weights: str = "--weights") -> None:
    """Add the options of the textbook side. Those that are not given are left out, until ``with_defaults``."""
    group = parser.add_argument_group("the images and the textbook script", argument_default=argparse.SUPPRESS)
    group.add_argument("--train", type=positive, metavar="N", help=f"training images (default: {DEFAULTS['train']})")
    group.add_argument("--test", type=positive, metavar="M", help=f"test images (default: {DEFAULTS['test']})")
    group.add_argument(
        "--seed",
        type=int,
        help="of the subset and of the first pair; each further pair takes the next one (default: 0)",
    )
    group.add_argument(
        "--epochs",
        type=positive,
        metavar="E",
        help=f"epochs of each of its two stages (default: {DEFAULTS['epochs']})",
    )
    group.add_argument("--image-size", type=positive, metavar="PIXELS", help=f"(default: {DEFAULTS['image_size']})")
    group.add_argument(
        weights,
        type=Path,
        dest="textbook_weights",
        metavar="FILE",
        help="ResNet-18, .safetensors or .pth (default: those of random_weights)",
    )


def given(options: argparse.Namespace) -> list[str]:
    """Return which of the options of ``add_options`` were given."""
    return [name for name in DEFAULTS if name in vars(options)]


def with_defaults(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options with those that were not given filled in."""
    return argparse.Namespace(**{**DEFAULTS, **vars(options)})


def initial_weights(chosen: Path | None, data: Path, image_size: int, work: Path) -> tuple[Path, str]:
    """Return the file that the ResNet-18 starts from, and what it is.

    Without a chosen one it is made of the training images.

    Raises:
        BenchmarkError: the chosen file does not exist.
    """
    if chosen is not None:
        path = existing_file(chosen)
    else:
        path = work / "resnet18.safetensors"
        # In a process of its own: PyTorch's memory would count in the peaks of everything that this process starts.
        run_child(
            [
                sys.executable,
                str(RANDOM_WEIGHTS),
                "--data",
                str(data),
                "--image-size",
                str(image_size),
                "--output",
                str(path),
            ]
        )
    return path, weights_description(path)


def weights_description(path: Path) -> str:
    """Name a file of weights so that it can be recognised elsewhere, with what it says of itself."""
    named = f"{path.name}, SHA-256 {sha256_file(path)[:16]}"
    if path.suffix != ".safetensors":
        return named
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        description = (file.metadata() or {}).get("description")
    return f"{description} ({named})" if description else named


def textbook_command(data: Path, weights: Path, seed: int, options: argparse.Namespace) -> Command:
    """Return how the script is run."""
    words = [sys.executable, str(SCRIPT), "--data", str(data), "--weights", str(weights), "--seed", str(seed)]
    words += [
        "--epochs1",
        str(options.epochs),
        "--epochs2",
        str(options.epochs),
        "--image-size",
        str(options.image_size),
    ]
    return Command(words + (["--threads", str(options.threads)] if options.threads else []))


def add_textbook(side: Side, run: Run) -> None:
    """Add a run of the script to its side."""
    result = json.loads(run.stdout.splitlines()[-1])
    side.runs.append(run)
    side.accuracies.append(result["accuracy"])
    side.results.append(result)
    print(f"  textbook script: {run.seconds:.1f} s, accuracy {result['accuracy']:.1%}", flush=True)


def add_toolkit(side: Side, result: Finetuned) -> None:
    """Add a run of toolkit to its side."""
    side.runs.append(result.run)
    side.accuracies.append(result.accuracy)
    print(f"  toolkit: {result.run.seconds:.1f} s, accuracy {result.accuracy:.1%}", flush=True)


def comparison(sides: Mapping[str, Side], images: int) -> Table:
    """Return the table of both sides."""
    rows = [
        (
            name,
            str(spread([run.seconds for run in side.runs])),
            percent(side.accuracy(), images),
            megabytes(*(run.peak_bytes for run in side.runs)),
            megabytes(*(run.tree_bytes for run in side.runs)),
        )
        for name, side in sides.items()
    ]
    return Table(
        (
            "side",
            "wall time, s",
            "test accuracy [95%]",
            "peak of the largest process, MB",
            "all processes, anonymous, MB",
        ),
        rows,
    )
