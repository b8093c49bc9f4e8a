"""``toolkit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.options import AllowCodeOption, ArtifactsOption, QuietOption, RunOption, ThreadsOption, VerifyKeyOption
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from toolkit.verify.options import Asked


def command(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BUNDLE]",
            help="A bundle without its run: judged by its golden samples and by itself; needs no PyTorch.",
        ),
    ] = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    device: Annotated[str, typer.Option("--device", metavar="[cpu|cuda]", help="Where the artifacts run.")] = "cpu",
    threads: ThreadsOption = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Test images to compare, drawn per class.")] = 512,
    full: Annotated[bool, typer.Option("--full", help="Compare on all test images.")] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="OTHER", help="Compare with this bundle instead; needs no PyTorch."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Images for --against (default: the golden ones of both)."),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance", metavar="NAME=VALUE", help="Replace a limit, e.g. logits_relative=0.01; may be repeated."
        ),
    ] = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Name the first node that diverges in each ONNX artifact that fails.")
    ] = False,
    records: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FOLDER",
            help="Where parity.json and junit.xml go (default: RUN/verify; nowhere for a bundle).",
        ),
    ] = None,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prove that every artifact computes what it should.

    With a run: what PyTorch computes, on real test images and edge inputs, at batches of 1 to 128; writes
    RUN/verify/parity.json and junit.xml. With BUNDLE alone: what its golden samples say. Either way the same image must
    give the same outputs whatever its place, neighbours and threads. Exit code 1 if anything fails.
    """
    from toolkit.cli.console import output, reporter, telling_of_lost_signature
    from toolkit.cli.memory import bound_memory
    from toolkit.report import print_parity
    from toolkit.runs import find_run

    _require_sense(bundle, run, against, data, bisect)
    how: Asked = {
        "device": device,
        "threads": threads,
        "reporter": reporter(quiet),
        "tolerances": _limits(tolerance or []),
        "bisect": bisect,
        "verify_key": verify_key,
        "allow_code": allow_code,
    }
    if against is not None or bundle is not None:
        bound_memory(device)
    if against is not None:
        from toolkit.verify.against import verify_against
        from toolkit.verify.options import VerifyOptions

        judged = bundle or find_run(run, artifacts).bundle
        report = verify_against(judged, against, data=data, options=VerifyOptions(**how))
    elif bundle is not None:
        from toolkit.verify.bundle import verify_bundle

        report = verify_bundle(bundle, **how)
    else:
        from toolkit.verify.run import verify_run

        folder = find_run(run, artifacts)
        with telling_of_lost_signature(folder.bundle):
            report = verify_run(folder, images=None if full else images, **how)
    if records is not None:
        from toolkit.verify.records import write_records

        write_records(report, records)
    print_parity(report, output())
    raise typer.Exit(0 if report.passed else 1)


def _require_sense(bundle: Path | None, run: str | None, against: Path | None, data: Path | None, bisect: bool) -> None:
    if bundle is not None and run is not None:
        raise ToolkitError(f"give either the bundle {bundle} or --run {run}, not both.")
    if data is not None and against is None:
        raise ToolkitError("--data gives images for --against: name the other bundle too.")
    if bisect and bundle is not None and against is None:
        raise ToolkitError(
            "--bisect needs what is right, node by node: the run (leave BUNDLE out), or another bundle (--against)."
        )


def _limits(given: list[str]) -> dict[str, float]:
    """Read ``NAME=VALUE`` pairs; whether there is such a name is the stage's to say."""
    limits = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            limits[name.strip()] = float(value)
        except ValueError as error:
            raise ToolkitError(
                f"--tolerance {text!r} is not NAME=VALUE with a number, e.g. logits_relative=0.01."
            ) from error
    return limits
