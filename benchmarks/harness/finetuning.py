"""``toolkit finetune`` as a benchmark runs it: in a process of its own, measured, with an empty cache."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.child import Command, Run, run_child
from benchmarks.harness.redaction import shown, shown_line


def toolkit_command() -> list[str]:
    """Return the console script that belongs to this interpreter; where there is none, the module that it would run."""
    script = Path(sys.executable).with_name("toolkit.exe" if os.name == "nt" else "toolkit")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "toolkit.cli.main"]


@dataclass(frozen=True)
class Finetuned:
    """One measured ``toolkit finetune``."""

    run: Run
    accuracy: float
    images: int
    """How many test images the accuracy is over."""
    backbone: str
    """Name and input size."""
    weights: str
    """Where the starting weights came from."""
    recipe: str
    threads: int
    validation: int
    """How many of the training images were set aside."""

    def settings(self) -> dict[str, Any]:
        """Return what a report says of how it ran."""
        return {"backbone": self.backbone, "weights": self.weights, "recipe": self.recipe, "threads": self.threads}

    def measurements(self) -> dict[str, Any]:
        """Return what the JSON report says of its result."""
        return {
            "accuracy": self.accuracy,
            "seconds": self.run.seconds,
            "peak_bytes": self.run.peak_bytes,
            "tree_bytes": self.run.tree_bytes,
        }


@dataclass(frozen=True)
class Finetuning:
    """A ``toolkit finetune`` that is about to run, with a cache of its own."""

    command: Command
    folder: Path
    """Where its run will be."""

    def read(self, run: Run) -> Finetuned:
        """Return what it wrote."""
        evaluation = json.loads((self.folder / "evaluation.json").read_text(encoding="utf-8"))
        record = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        return Finetuned(
            run=run,
            accuracy=evaluation["top1"],
            images=evaluation["images"],
            backbone=f"{record['backbone']} at {record['preprocessing']['width']} px on {record['device']}",
            weights=" ".join(map(shown, record["weights"].split())),
            recipe=record["recipe"],
            threads=record["threads"],
            validation=record["validation"]["images"],
        )


@contextlib.contextmanager
def finetuning(arguments: Sequence[str], work: Path) -> Iterator[Finetuning]:
    """Prepare a ``toolkit finetune`` with an empty cache; what it wrote is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=work, prefix="toolkit-") as place:
        artifacts = Path(place) / "artifacts"
        words = [*toolkit_command(), "finetune", *arguments, "--run", "r", "--artifacts", str(artifacts)]
        print(f"toolkit finetune {shown_line(arguments)}", flush=True)
        yield Finetuning(Command(words, {"TOOLKIT_CACHE": str(Path(place) / "cache")}), artifacts / "r")


def passed_on(arguments: Sequence[str]) -> str:
    """Return what a report says of the arguments after ``--``."""
    return shown_line(arguments) or "nothing"


def finetune(arguments: Sequence[str], work: Path) -> Finetuned:
    """Run ``toolkit finetune`` with an empty cache and read its evaluation.

    Raises:
        BenchmarkError: it failed.
    """
    with finetuning(arguments, work) as prepared:
        return prepared.read(run_child(prepared.command.words, prepared.command.environment))
