"""``toolkit selftest``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.options import AllowCodeOption, BundleArgument, ThreadsOption, VerifyKeyOption

if TYPE_CHECKING:
    from toolkit.runtime.selftest import Selftest


def command(
    bundle: BundleArgument,
    device: Annotated[str, typer.Option("--device", metavar="[cpu|cuda]", help="Where the artifacts run.")] = "cpu",
    threads: ThreadsOption = None,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Run a bundle's own samples through it; needs no PyTorch.

    Every artifact that can be opened here runs the golden samples, each alone and all in one batch, and is compared
    with the outputs that PyTorch gave when the bundle was exported. Exit code 1 if one differs, 2 if none can be opened
    here.
    """
    from toolkit.bundle import Bundle
    from toolkit.cli.memory import bound_memory
    from toolkit.errors import MissingDependencyError
    from toolkit.provenance import available_cores
    from toolkit.runtime.selftest import selftest_bundle

    bound_memory(device)
    opened = Bundle.open(bundle, verify_key, allow_code)
    results = []
    for result in selftest_bundle(opened, device, threads or available_cores()):
        results.append(result)
        typer.echo(f"{result.format:14} {result.file:24} {_said(result)}")
    if all(result.missing is not None for result in results):
        raise MissingDependencyError(f"no artifact of {opened.path} can be opened here, so nothing was tested.")
    raise typer.Exit(1 if any(result.failures for result in results) else 0)


def _said(result: Selftest) -> str:
    if result.missing is not None:
        return f"not tested: {result.missing}"
    if result.failures:
        return f"FAILED: {'; '.join(result.failures)}"
    largest = f"{result.max_absolute_logits:.1e} in logits, {result.max_absolute_probabilities:.1e} in probabilities"
    judged = "" if result.judges_values else " (single values of this precision are not judged)"
    return (
        f"passed: {result.samples} samples alone and together, same class on {result.top1_agreement:.0%}, largest "
        f"difference {largest}{judged}"
    )
