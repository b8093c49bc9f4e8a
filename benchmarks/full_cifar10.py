"""``toolkit finetune`` on the whole of CIFAR-10 as an image folder: accuracy and wall time.

Arguments after ``--`` are passed on.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import common
from benchmarks.harness.child import BenchmarkError, run_child, shown
from benchmarks.harness.common import Claim, Report, Table

NAME = "full_cifar10"
EMBEDDED = ("--recipe", "folder", "--backbone", "timm:tf_efficientnet_lite0")
"""What ``toolkit finetune`` is asked for; the weights come from a pip package. Arguments after ``--`` stand behind and
prevail."""


def claims(accuracy: float, images: int, seconds: float, needed: float, minutes: float) -> list[Claim]:
    """Judge accuracy and time, the first in percent and the second in minutes."""
    return [
        Claim(f"test accuracy of at least {needed:g}%", common.percent(accuracy, images), 100 * accuracy >= needed),
        Claim(f"within {minutes:g} minutes", f"{seconds / 60:.1f} minutes", seconds <= 60 * minutes),
    ]


def benchmark(arguments: Sequence[str]) -> int:
    """Run once and write the report."""
    own, extra = common.split_arguments(arguments)
    parser = common.parser(__doc__)
    parser.add_argument("--accuracy", type=float, default=92.5, metavar="PERCENT", help="what is claimed")
    parser.add_argument("--minutes", type=float, default=45, help="what is claimed")
    parser.add_argument(
        "--name", default=NAME, help="name of the report, where several runs are kept beside each other"
    )
    parser.add_argument(
        "--keep", type=Path, default=None, metavar="FOLDER", help="where the run is kept, for toolkit export and bench"
    )
    options = parser.parse_args(own)
    if options.keep and options.keep.exists():
        raise BenchmarkError(f"{options.keep} exists: give a folder that does not.")
    if not options.data.is_dir():
        raise BenchmarkError(
            f"{options.data} is not a folder: give CIFAR-10 as train/<class>/*.jpg and test/<class>/*.jpg."
        )
    with (
        common.workspace(options.work) as work,
        common.finetuning([*EMBEDDED, "--data", str(options.data.resolve()), *extra], work) as prepared,
    ):
        result = prepared.read(run_child(prepared.command.words, prepared.command.environment))
        if options.keep:
            shutil.copytree(prepared.folder, options.keep)
    row = (
        f"{result.run.seconds / 60:.1f}",
        common.percent(result.accuracy, result.images),
        common.megabytes(result.run.peak_bytes),
        common.megabytes(result.run.tree_bytes),
    )
    report = Report(
        name=options.name,
        script=NAME,
        title="toolkit finetune on the whole of CIFAR-10",
        settings={
            "data": options.data.resolve().name,
            "passed on": shlex.join(map(shown, extra)) or "nothing",
            "backbone": result.backbone,
            "weights": result.weights,
            "recipe": result.recipe,
            "threads": result.threads,
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
            "A tenth of the training images is set aside for validation.",
        ],
        measurements={
            "accuracy": result.accuracy,
            "seconds": result.run.seconds,
            "peak_bytes": result.run.peak_bytes,
            "tree_bytes": result.run.tree_bytes,
        },
    )
    return common.finish(report, options.output, arguments)


if __name__ == "__main__":
    common.main(benchmark)
