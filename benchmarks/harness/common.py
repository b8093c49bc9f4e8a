"""What the benchmarks share.

A subset of an image folder, the measured fine-tuning, the arithmetic, claims and reports.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.child import BenchmarkError, Command, Run, run_child, shown
from toolkit import provenance
from toolkit.compare.metrics import wilson_interval
from toolkit.errors import ToolkitError
from toolkit.files import write_text
from toolkit.results import Interval

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results"
SUFFIXES = (".jpg", ".jpeg", ".png")
GIGABYTE = 10**9


# --- The subset


@dataclass(frozen=True)
class Subset:
    """A folder of links to some of the images of another folder."""

    folder: Path
    train: int
    test: int
    classes: int
    fingerprint: str
    """SHA-256 over the names of the chosen files: equal where the same images were chosen."""


def shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide ``total`` images over classes in proportion to what each has (largest remainders, at least one per class).

    Raises:
        BenchmarkError: there are fewer images than ``total``, or fewer asked for than there are classes.
    """
    images = sum(available.values())
    if not len(available) <= total <= images:
        raise BenchmarkError(
            f"{total} images cannot be drawn from {images} images of {len(available)} classes: give {len(available)} "
            f"to {images}."
        )
    exact = {name: total * count / images for name, count in available.items()}
    chosen = {name: max(1, math.floor(value)) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: chosen[name] - exact[name]):
        if sum(chosen.values()) >= total:
            break
        chosen[name] += chosen[name] < available[name]
    while sum(chosen.values()) > total:
        chosen[max(chosen, key=lambda name: chosen[name])] -= 1
    return chosen


def make_subset(data: Path, folder: Path, train: int, test: int, seed: int) -> Subset:
    """Link a seeded draw, stratified by class, of ``data/train/<class>`` and ``data/test/<class>`` into ``folder``.

    Smaller subsets of one seed are contained in larger ones, up to the rounding of the classes.

    Raises:
        BenchmarkError: a split is missing, the splits have different classes, or there are too few images.
    """
    digest = hashlib.sha256()
    classes: dict[str, set[str]] = {}
    for split, total in (("train", train), ("test", test)):
        found = _listing(data, split)
        classes[split] = set(found)
        for name, count in shares({name: len(files) for name, files in found.items()}, total).items():
            files = list(found[name])
            random.Random(f"{seed}/{split}/{name}").shuffle(files)
            target = folder / split / name
            target.mkdir(parents=True)
            for file in sorted(files[:count]):
                (target / file.name).symlink_to(file.resolve())
                digest.update(f"{split}/{name}/{file.name}\n".encode())
    if classes["train"] != classes["test"]:
        raise BenchmarkError(f"train/ and test/ of {data} have different classes: give both the same class folders.")
    return Subset(folder, train, test, len(classes["train"]), digest.hexdigest())


def _listing(data: Path, split: str) -> dict[str, list[Path]]:
    root = data / split
    if not root.is_dir():
        raise BenchmarkError(
            f"{data} has no folder {split}/: give a folder with train/<class>/*.jpg and test/<class>/*.jpg."
        )
    found = {
        entry.name: sorted(file for file in entry.iterdir() if file.suffix.lower() in SUFFIXES)
        for entry in sorted(root.iterdir())
        if entry.is_dir()
    }
    filled = {name: files for name, files in found.items() if files}
    if not filled:
        raise BenchmarkError(
            f"{root} has no images ({', '.join(SUFFIXES)}) in class folders: give a folder with {split}/<class>/*.jpg."
        )
    return filled


# --- toolkit finetune


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
        )


@contextlib.contextmanager
def finetuning(arguments: Sequence[str], work: Path) -> Iterator[Finetuning]:
    """Prepare a ``toolkit finetune`` with an empty cache; what it wrote is removed afterwards."""
    with tempfile.TemporaryDirectory(dir=work, prefix="toolkit-") as place:
        artifacts = Path(place) / "artifacts"
        words = [*toolkit_command(), "finetune", *arguments, "--run", "r", "--artifacts", str(artifacts)]
        print(f"toolkit finetune {shlex.join(map(shown, arguments))}", flush=True)
        yield Finetuning(Command(words, {"TOOLKIT_CACHE": str(Path(place) / "cache")}), artifacts / "r")


def finetune(arguments: Sequence[str], work: Path) -> Finetuned:
    """Run ``toolkit finetune`` with an empty cache and read its evaluation.

    Raises:
        BenchmarkError: it failed.
    """
    with finetuning(arguments, work) as prepared:
        return prepared.read(run_child(prepared.command.words, prepared.command.environment))


# --- Arithmetic


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, and the smallest and the largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.median:.1f}" if self.low == self.high else f"{self.median:.1f} ({self.low:.1f} to {self.high:.1f})"
        )


def spread(values: Sequence[float]) -> Spread:
    """Return median and range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def accuracy_interval(accuracy: float, images: int) -> Interval:
    """Return the 95% Wilson interval of an accuracy over ``images`` images.

    A mean over several runs is rounded to whole images.
    """
    return wilson_interval(round(accuracy * images), images)


def difference_interval(accuracy: float, baseline: float, images: int) -> Interval:
    """Return the 95% interval of ``accuracy - baseline``, both over ``images`` images (Newcombe 1998, method 10).

    It takes the two as independent, which for the same test images is wider than a paired interval would be.
    """
    first, second = accuracy_interval(accuracy, images), accuracy_interval(baseline, images)
    difference = accuracy - baseline
    return Interval(
        low=difference - math.hypot(accuracy - first.low, second.high - baseline),
        high=difference + math.hypot(first.high - accuracy, baseline - second.low),
    )


def slopes(sizes: Sequence[int], seconds: Sequence[float]) -> list[float]:
    """Return the seconds per additional 1,000 images between neighbouring sizes, which rise."""
    pairs = zip(zip(sizes, seconds, strict=True), list(zip(sizes, seconds, strict=True))[1:], strict=False)
    return [1000 * (after - before) / (larger - smaller) for (smaller, before), (larger, after) in pairs]


@dataclass(frozen=True)
class Line:
    """Seconds as a straight line over thousands of images."""

    fixed: float
    per_1000: float
    deviation: float
    """Largest distance of a point from the line, as a share of the line's value there."""

    def __str__(self) -> str:
        return f"{self.fixed:.1f} s + {self.per_1000:.2f} s per 1,000 images"


def fit_line(sizes: Sequence[int], seconds: Sequence[float]) -> Line:
    """Fit a straight line through at least two points by least squares."""
    slope, fixed = statistics.linear_regression([size / 1000 for size in sizes], seconds)
    fitted = [fixed + slope * size / 1000 for size in sizes]
    return Line(fixed, slope, max(abs(value - line) / abs(line) for value, line in zip(seconds, fitted, strict=True)))


def percent(accuracy: float, images: int) -> str:
    """Write an accuracy with its interval."""
    interval = accuracy_interval(accuracy, images)
    return f"{accuracy:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def megabytes(*sizes: int | None) -> str:
    """Write bytes in MB: one number, or the median of several with their range, or that they were not measured."""
    known = [size / 1e6 for size in sizes if size is not None]
    if not known:
        return "not measured"
    values = spread(known)
    return (
        f"{values.median:,.0f}"
        if values.low == values.high
        else f"{values.median:,.0f} ({values.low:,.0f} to {values.high:,.0f})"
    )


# --- Claims and reports


@dataclass(frozen=True)
class Claim:
    """What a benchmark is to show, what was measured, and whether that shows it."""

    text: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Table:
    """A table of a report, all cells written out."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """A result: what ``finish`` writes for people and for programs."""

    name: str
    title: str
    settings: Mapping[str, Any]
    claims: Sequence[Claim]
    tables: Sequence[Table]
    notes: Sequence[str]
    measurements: Mapping[str, Any] = field(default_factory=dict)
    script: str = ""
    """Name of the benchmark where the report has another."""


def finish(report: Report, folder: Path, arguments: Sequence[str]) -> int:
    """Write ``<name>.md`` and ``<name>.json`` into ``folder``, print the claims, and return the exit code.

    1 if a claim is not met.
    """
    origin = provenance.collect().model_dump(mode="json")
    command = shlex.join(["python", "-m", f"benchmarks.{report.script or report.name}", *map(shown, arguments)])
    content = {
        "benchmark": report.name,
        "command": command,
        "settings": dict(report.settings),
        "claims": [asdict(claim) for claim in report.claims],
        "measurements": dict(report.measurements),
        "provenance": origin,
    }
    write_text(folder / f"{report.name}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / f"{report.name}.md", markdown(report, command, origin))
    for claim in report.claims:
        print(_verdict(claim))
    return 0 if all(claim.met for claim in report.claims) else 1


def markdown(report: Report, command: str, origin: Mapping[str, Any]) -> str:
    """Return the report for people."""
    parts = [f"# {report.title}", "\n".join(f"- {_verdict(claim)}" for claim in report.claims)]
    parts += [_table(table) for table in report.tables]
    parts += ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    parts += [
        f"```\n{command}\n```",
        _table(Table(("setting", "value"), [(name, str(value)) for name, value in report.settings.items()])),
    ]
    machine = origin["hardware"]
    packages = ", ".join(f"{name} {version}" for name, version in origin["packages"].items())
    parts.append(
        f"Measured {origin['created']} on {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['gpu'] or 'no GPU'}, {machine['operating_system']}; Python {origin['python']}, toolkit "
        f"{origin['toolkit']} "
        f"(commit {origin['commit'] or 'unknown'}), {packages}."
    )
    return "\n\n".join(parts) + "\n"


def _verdict(claim: Claim) -> str:
    return f"**{'met' if claim.met else 'NOT MET'}**: {claim.text}; measured: {claim.measured}"


def _table(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# --- Command lines


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide a command line at the first ``--``: what is for the benchmark, and what is passed on."""
    if "--" not in arguments:
        return list(arguments), []
    at = list(arguments).index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="images as train/<class>/*.jpg and test/<class>/*.jpg",
    )
    made.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where the report is written")
    made.add_argument(
        "--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go (default: the system's)"
    )
    return made


def positive(text: str) -> int:
    """Read a whole number of at least 1 from a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def existing_file(path: Path) -> Path:
    """Return the absolute path of a file that must be there.

    Raises:
        BenchmarkError: it is not.
    """
    if not path.is_file():
        raise BenchmarkError(f"{path} is not a file: give a file that exists.")
    return path.resolve()


@contextlib.contextmanager
def workspace(folder: Path | None) -> Iterator[Path]:
    """Yield a temporary folder, and remove it with all it holds.

    Raises:
        BenchmarkError: the folder that it is to be made in cannot be written.
    """
    try:
        place = Path(tempfile.mkdtemp(dir=folder, prefix="benchmark-")).resolve()
    except OSError as error:
        raise BenchmarkError(
            f"no temporary folder can be made: {error.strerror or error}; give a folder that exists with --work."
        ) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main(benchmark: Callable[[Sequence[str]], int]) -> None:
    """Run a benchmark as a command: exit code 0 if all claims are met, 1 if one is not, 2 for bad input."""
    try:
        code = benchmark(sys.argv[1:])
    except ToolkitError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)
