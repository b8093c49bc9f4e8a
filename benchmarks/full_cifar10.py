"""``toolkit finetune`` on the whole of CIFAR-10 as an image folder: accuracy and wall time.

Arguments after ``--`` are passed on.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.child import run_child
from benchmarks.harness.command_line import images_parser, main, split_arguments, workspace
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import megabytes, percent
from benchmarks.harness.finetuning import Finetuned, finetuning, passed_on
from benchmarks.harness.report import Claim, Report, Table, finish

NAME = "full_cifar10"
EMBEDDED = ("--recipe", "folder", "--backbone", "timm:tf_efficientnet_lite0")
"""What ``toolkit finetune`` is asked for; the weights come from a pip package. Arguments after ``--`` stand behind and
prevail."""


def claims(accuracy: float, images: int, seconds: float, needed: float, minutes: float) -> list[Claim]:
    """Judge accuracy and time, the first in percent and the second in minutes."""
    return [
        Claim(f"test accuracy of at least {needed:g}%", percent(accuracy, images), 100 * accuracy >= needed),
        Claim(f"within {minutes:g} minutes", f"{seconds / 60:.1f} minutes", seconds <= 60 * minutes),
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        BenchmarkError: a folder is missing, or one is there that must not be.
    """
    parser = images_parser(NAME, __doc__)
    parser.add_argument("--accuracy", type=float, default=92.5, metavar="PERCENT", help="what is claimed")
    parser.add_argument("--minutes", type=float, default=45, help="what is claimed")
    parser.add_argument(
        "--name", default=NAME, help="name of the report, where several runs are kept beside each other"
    )
    parser.add_argument(
        "--keep", type=Path, default=None, metavar="FOLDER", help="where the run is kept, for toolkit export and bench"
    )
    options = parser.parse_args(arguments)
    if options.keep and options.keep.exists():
        raise BenchmarkError(f"{options.keep} exists: give a folder that does not.")
    if not options.data.is_dir():
        raise BenchmarkError(
            f"{options.data} is not a folder: give CIFAR-10 as train/<class>/*.jpg and test/<class>/*.jpg."
        )
    return options


def make_report(options: argparse.Namespace, extra: Sequence[str], result: Finetuned) -> Report:
    """Put the result into words."""
    row = (
        f"{result.run.seconds / 60:.1f}",
        percent(result.accuracy, result.images),
        megabytes(result.run.peak_bytes),
        megabytes(result.run.tree_bytes),
    )
    return Report(
        name=options.name,
        script=NAME,
        title="toolkit finetune on the whole of CIFAR-10",
        settings={
            "data": options.data.resolve().name,
            "passed on": passed_on(extra),
            **result.settings(),
            "test images": result.images,
        },
        claims=claims(result.accuracy, result.images, result.run.seconds, options.accuracy, options.minutes),
        tables=[
            Table(
                (
                    "wall time, minutes",
                    "test accuracy [95%]",
                    "peak of the largest process, MB",
                    "all processes, anonymous, MB",
                ),
                [row],
            )
        ],
        notes=[
            "One run of the whole process with an empty cache.",
            f"{result.validation:,} of the training images are set aside for validation.",
        ],
        measurements=result.measurements(),
    )


def benchmark(arguments: Sequence[str]) -> int:
    """Run once and write the report."""
    own, extra = split_arguments(arguments)
    options = parse(own)
    with (
        workspace(options.work) as work,
        finetuning([*EMBEDDED, "--data", str(options.data.resolve()), *extra], work) as prepared,
    ):
        result = prepared.read(run_child(prepared.command.words, prepared.command.environment))
        if options.keep:
            shutil.copytree(prepared.folder, options.keep)
    return finish(make_report(options, extra, result), options.output, arguments)


if __name__ == "__main__":
    main(benchmark)
