"""Time and peak memory of ``toolkit finetune`` as the number of training images grows.

Arguments after ``--`` are passed on.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.command_line import images_parser, main, positive, rising, split_arguments, workspace
from benchmarks.harness.figures import GIGABYTE, megabytes, percent
from benchmarks.harness.finetuning import Finetuned, finetuning, passed_on
from benchmarks.harness.growth import fit_line, linear, slopes
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.harness.subset import make_subset
from benchmarks.harness.turns import run_in_turns

NAME = "scaling"
MEMORY_BYTES = GIGABYTE


def turn(size: int) -> float:
    """Return the seconds of a size's turn.

    Larger ones take longer, so that all are spread over much of the same time.
    """
    return 1 + size / 5000


def claims(counts: Sequence[int], seconds: Sequence[float], peaks: Sequence[int | None]) -> list[Claim]:
    """Judge memory and time."""
    known = [peak for peak in peaks if peak is not None]
    if len(known) == len(peaks):
        growth = max(peak - known[0] for peak in known)
        memory, flat = f"{growth / 1e9:+.2f} GB", growth <= MEMORY_BYTES
    else:
        memory, flat = "not measured on this system", False
    return [
        Claim("peak memory at every size within 1 GB of that at the smallest", memory, flat),
        linear(counts, seconds),
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = images_parser(NAME, __doc__)
    parser.add_argument("--sizes", type=rising, default="1000,5000,20000,50000", help="numbers of training images")
    parser.add_argument(
        "--test", type=positive, default=1000, metavar="M", help="test images, the same number at every size"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the subsets")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, extra: Sequence[str], work: Path) -> list[Finetuned]:
    """Run once per size, all of them in turns."""
    with contextlib.ExitStack() as stack:
        subsets = [
            make_subset(options.data, work / str(size), size, options.test, options.seed) for size in options.sizes
        ]
        prepared = [stack.enter_context(finetuning(["--data", str(subset.folder), *extra], work)) for subset in subsets]
        runs = run_in_turns([each.command for each in prepared], [turn(size) for size in options.sizes])
        return [each.read(run) for each, run in zip(prepared, runs, strict=True)]


def table(counts: Sequence[int], results: Sequence[Finetuned]) -> Table:
    """Write out a row per size."""
    rates = ["", *(f"{rate:.2f}" for rate in slopes(counts, [result.run.seconds for result in results]))]
    rows = [
        (
            f"{size:,}",
            f"{result.run.seconds:.1f}",
            f"{1000 * result.run.seconds / size:.2f}",
            rate,
            megabytes(result.run.peak_bytes),
            megabytes(result.run.tree_bytes),
            percent(result.accuracy, result.images),
        )
        for size, result, rate in zip(counts, results, rates, strict=True)
    ]
    header = (
        "training images",
        "wall time, s",
        "s per 1,000 images",
        "s per additional 1,000",
        "peak of the largest process, MB",
        "all processes, anonymous, MB",
        "test accuracy [95%]",
    )
    return Table(header, rows)


def make_report(options: argparse.Namespace, extra: Sequence[str], results: Sequence[Finetuned]) -> Report:
    """Put the result into words."""
    seconds = [result.run.seconds for result in results]
    line = fit_line(options.sizes, seconds)
    return Report(
        name=NAME,
        title="toolkit finetune as the number of images grows",
        settings={
            "data": options.data.resolve().name,
            "sizes": options.sizes,
            "test images": options.test,
            "seed": options.seed,
            "passed on": passed_on(extra),
            **results[0].settings(),
        },
        claims=claims(options.sizes, seconds, [result.run.peak_bytes for result in results]),
        tables=[table(options.sizes, results)],
        notes=[
            f"The straight line through all sizes (least squares): {line}; the point farthest from it is "
            f"{line.deviation:.1%} off.",
            "The sizes ran in turns, each standing still (SIGSTOP) in the turns of the others, longer turns for "
            "larger ones, so that what slows the "
            "machine slows them all. Wall time is of the whole process in its own turns; each began with an empty "
            "cache.",
            "Peak memory counts the pages of mapped files, too, which the system takes back when it needs them; the "
            "anonymous part does not.",
            "A tenth of the training images is set aside for validation and looked at after every epoch.",
        ],
        measurements={
            "line": asdict(line),
            "sizes": {str(size): result.measurements() for size, result in zip(options.sizes, results, strict=True)},
        },
    )


def benchmark(arguments: Sequence[str]) -> int:
    """Run once per size and write the report."""
    own, extra = split_arguments(arguments)
    options = parse(own)
    with workspace(options.work) as work:
        results = measure(options, extra, work)
    return finish(make_report(options, extra, results), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
