"""Time and peak memory of ``toolkit batch`` as the number of images grows.

The images are made here, of CIFAR's size, unless ``--data`` names a folder that holds enough.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness.child import Command, Run, run_child
from benchmarks.harness.command_line import main, positive, report_parser, rising, workspace
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import megabytes
from benchmarks.harness.growth import fit_line, linear, slopes
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.harness.turns import run_in_turns
from toolkit.preprocess import walk_folder

NAME = "batch"
HERE, RAY = "here", "ray"
SIDE = 32
"""Pixels, of the images that are made."""
FOLDER_FILES = 5000
MEMORY_BYTES = 50 * 10**6
"""By so much the peak may grow from the smallest to the largest number of images."""
_SAID = re.compile(r"(\d+) images? in \d+ parts?( in |, (\d+) of them with an error)")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--bundle", type=Path, required=True, metavar="FOLDER", help="the bundle that is used")
    parser.add_argument("--data", type=Path, default=None, metavar="FOLDER", help="images (default: made here)")
    parser.add_argument("--sizes", type=rising, default="1000,10000,60000", help="numbers of images")
    parser.add_argument("--part-rows", type=positive, default=5000, metavar="N", help="as of toolkit batch")
    parser.add_argument(
        "--work", type=Path, default=None, metavar="FOLDER", help="where temporary files go (default: the system's)"
    )
    parser.add_argument("--ray", action="store_true", help="measure --engine ray, too, on the cores of this machine")
    return parser.parse_args(arguments)


def make_images(folder: Path, count: int) -> Iterable[Path]:
    """Write JPEG files of noise, some thousands to a folder."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(number // FOLDER_FILES) / f"{number}.jpg"
        if number % FOLDER_FILES == 0:
            path.parent.mkdir(parents=True)
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
        yield path


def make_lists(options: argparse.Namespace, work: Path) -> list[Path]:
    """Write a list of paths for each size; the images of a smaller size are the first of the larger ones.

    Raises:
        BenchmarkError: the folder that was given holds too few images.
    """
    most = options.sizes[-1]
    if options.data is None:
        paths = list(make_images(work / "images", most))
    else:
        paths = list(islice((path for path, is_image in walk_folder(options.data.resolve()) if is_image), most))
    if len(paths) < most:
        raise BenchmarkError(f"{options.data} holds {len(paths)} images, fewer than {most}: give smaller --sizes.")
    lists = []
    for size in options.sizes:
        lists.append(work / f"{size}.txt")
        lists[-1].write_text("".join(f"{path}\n" for path in paths[:size]), encoding="utf-8")
    return lists


def require_all(run: Run, size: int) -> None:
    """Refuse a measurement of a job that left images out, or could not read some.

    Raises:
        BenchmarkError: with what the command said.
    """
    said = _SAID.match(run.stdout)
    if said is None or int(said[1]) != size or said[3] is not None:
        raise BenchmarkError(f"toolkit batch was to classify {size} images and said: {run.stdout.strip()!r}.")


def command(options: argparse.Namespace, listed: Path, engine: str) -> Command:
    """Return what classifies the images of a list."""
    out = listed.with_name(f"{engine}-{listed.stem}")
    words = ["batch", str(options.bundle.resolve()), str(listed), "--out", str(out), "--engine", engine, "--quiet"]
    return Command([sys.executable, "-m", "toolkit", *words, "--part-rows", str(options.part_rows)])


def measure(options: argparse.Namespace, work: Path) -> dict[str, list[Run]]:
    """Run once per size in one process, all sizes in turns; then, if asked for, one after the other with Ray.

    The processes of Ray are no children that could be made to stand still.
    """
    lists = make_lists(options, work)
    found = {
        HERE: run_in_turns(
            [command(options, listed, HERE) for listed in lists], [1 + size / 5000 for size in options.sizes]
        )
    }
    if options.ray:
        found[RAY] = [run_child(command(options, listed, RAY).words) for listed in lists]
    for runs in found.values():
        for run, size in zip(runs, options.sizes, strict=True):
            require_all(run, size)
    return found


def claims(sizes: Sequence[int], runs: Sequence[Run]) -> list[Claim]:
    """Judge memory and time."""
    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    grown = max(peaks) - peaks[0] if len(peaks) == len(runs) else None
    return [
        Claim(
            "peak memory at every size within 50 MB of that at the smallest",
            "not measured on this system" if grown is None else f"{grown / 1e6:+.0f} MB",
            grown is not None and grown <= MEMORY_BYTES,
        ),
        linear(sizes, [run.seconds for run in runs]),
    ]


def table(sizes: Sequence[int], found: Mapping[str, Sequence[Run]]) -> Table:
    """Write out a row per engine and size."""
    rows = []
    for engine, runs in found.items():
        rates = ["", *(f"{rate:.2f}" for rate in slopes(sizes, [run.seconds for run in runs]))]
        for size, run, rate in zip(sizes, runs, rates, strict=True):
            speed = (f"{run.seconds:.1f}", f"{size / run.seconds:.0f}", rate)
            rows.append((engine, f"{size:,}", *speed, megabytes(run.peak_bytes), megabytes(run.tree_bytes)))
    header = ("engine", "images", "wall time, s", "images/s, start included", "s per additional 1,000")
    return Table((*header, "peak of the largest process, MB", "all processes, anonymous, MB"), rows)


def figures_of(run: Run) -> dict[str, float | None]:
    """Return what was measured of a run; what it printed names folders, and its turns are moments of one machine."""
    return {name: value for name, value in asdict(run).items() if name not in ("stdout", "turns")}


def benchmark(arguments: Sequence[str]) -> int:
    """Run once per size and write the report."""
    options = parse(arguments)
    with workspace(options.work) as work:
        found = measure(options, work)
    runs = found[HERE]
    line = fit_line(options.sizes, [run.seconds for run in runs])
    return finish(
        Report(
            name=NAME,
            title="toolkit batch as the number of images grows",
            settings={
                "bundle": options.bundle.resolve().name,
                "data": f"noise, {SIDE} px, JPEG" if options.data is None else options.data.resolve().name,
                "sizes": options.sizes,
                "images a part": options.part_rows,
            },
            claims=claims(options.sizes, runs),
            tables=[table(options.sizes, found)],
            notes=[
                f"The straight line through all sizes (least squares): {line}; the point farthest from it is "
                f"{line.deviation:.1%} off.",
                "The sizes ran in turns, each standing still (SIGSTOP) in the turns of the others. Wall time is of the "
                "whole process in its own turns, reading and hashing the bundle and listing the images included.",
                "Every image had its row, and none an error. With Ray the sizes ran one after the other, each with the "
                "start of a cluster of its own on this machine's cores; claims are about one process.",
            ],
            measurements={
                "line": asdict(line),
                "engines": {
                    engine: {str(size): figures_of(run) for size, run in zip(options.sizes, runs, strict=True)}
                    for engine, runs in found.items()
                },
            },
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
