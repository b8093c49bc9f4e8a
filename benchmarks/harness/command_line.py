"""What the commands have in common: their options, their temporary folder, their exit codes."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.report import RESULTS
from toolkit.errors import ToolkitError

_MIN_SIZES = 3


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide a command line at the first ``--``: what is for the benchmark, and what is passed on."""
    if "--" not in arguments:
        return list(arguments), []
    at = list(arguments).index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the default of every option, and a description in the lines it was written in."""


def report_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for the benchmark of a name, with the one option that all of them have."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, formatter_class=_Help
    )
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where the report is written")
    return parser


def images_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for a benchmark that works on a folder of images."""
    parser = report_parser(name, description)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="images as train/<class>/*.jpg and test/<class>/*.jpg",
    )
    parser.add_argument(
        "--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go (default: the system's)"
    )
    return parser


def positive(text: str) -> int:
    """Read a whole number of at least 1 from a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def rising(text: str) -> list[int]:
    """Read at least three rising sizes, separated by commas."""
    values = [positive(part.strip()) for part in text.split(",")]
    if len(values) < _MIN_SIZES or values != sorted(set(values)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of at least {_MIN_SIZES} rising sizes, such as 1000,5000,20000"
        )
    return values


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


@contextlib.contextmanager
def workspace_with_cache(folder: Path | None) -> Iterator[Path]:
    """Yield a temporary folder as ``workspace`` does, in which toolkit keeps its cache: empty at first."""
    with workspace(folder) as place, patch.dict(os.environ, {"TOOLKIT_CACHE": str(place / "cache")}):
        yield place


def main(benchmark: Callable[[Sequence[str]], int]) -> None:
    """Run a benchmark as a command: exit code 0 if all claims are met, 1 if one is not, 2 for bad input.

    SIGTERM ends it as Ctrl-C does, with exit code 130: what it started ends, too, and its temporary folder goes.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = benchmark(sys.argv[1:])
    except ToolkitError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped before the report was written.", file=sys.stderr)
        code = 130
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code)
