"""``toolkit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.options import ArtifactsOption, QuietOption, RunOption, ThreadsOption, VerifyKeyOption


def command(
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    device: Annotated[str, typer.Option("--device", metavar="[cpu|cuda]", help="Where the artifacts run.")] = "cpu",
    threads: ThreadsOption = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Test images to compare, drawn per class.")] = 256,
    verify_key: VerifyKeyOption = None,
    quiet: QuietOption = False,
) -> None:
    """Prove that every artifact computes what PyTorch computes.

    Compares on real test images and edge inputs, at batches of 1, 3 and 32. Writes RUN/verify/parity.json and junit.xml; exit code 1 if any
    artifact fails.
    """
    from toolkit.bundle import Bundle
    from toolkit.cli.console import output, reporter, telling_of_lost_signature
    from toolkit.report import print_parity
    from toolkit.runs import find_run
    from toolkit.verify import verify_run

    folder = find_run(run, artifacts)
    if verify_key is not None:
        Bundle.open(folder.bundle, verify_key)
    with telling_of_lost_signature(folder.bundle):
        report = verify_run(folder, device=device, threads=threads, images=images, reporter=reporter(quiet))
    print_parity(report, output())
    raise typer.Exit(0 if report.passed else 1)
