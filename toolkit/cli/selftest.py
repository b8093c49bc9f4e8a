"""``toolkit selftest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from toolkit.cli.hanging import echo_hanging
from toolkit.cli.options import (
    AllowCodeOption,
    ArtifactsOption,
    DeviceOption,
    PlaceArgument,
    RunOption,
    ThreadsOption,
    ToleranceOption,
    VerifyKeyOption,
    limits,
)
from toolkit.cli.place import find_place

if TYPE_CHECKING:
    from toolkit.runtime.selftest import Selftest


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    tolerance: ToleranceOption = None,
    verify_key: VerifyKeyOption = None,
    allow_code: AllowCodeOption = False,
) -> None:
    """Run a bundle's own samples through it; needs no PyTorch.

    Every artifact that can be opened here runs the golden samples, each alone and all in one batch, and is compared
    with the outputs that were expected when the bundle was exported. Its limits are those of its precision, which the
    bundle may tighten and never widen. Exit code 1 if one differs, 2 if none can be opened here.
    """
    bundle = find_place(place, run, artifacts).bundle
    from toolkit.bundle import Bundle
    from toolkit.cli.memory import bound_memory
    from toolkit.errors import MissingDependencyError
    from toolkit.provenance import default_threads
    from toolkit.runtime.selftest import selftest_bundle

    bound_memory(device)
    opened = Bundle.open(bundle, verify_key, allow_code)
    results = []
    for result in selftest_bundle(opened, device, threads or default_threads(), limits(tolerance)):
        results.append(result)
        for sentence in (_said(result), *result.limits):
            echo_hanging(f"{result.format:14} {result.file:24} ", sentence)
    if all(result.missing is not None for result in results):
        raise MissingDependencyError(f"no artifact of {opened.path} can be opened here, so nothing was tested.")
    raise typer.Exit(1 if any(result.failures for result in results) else 0)


def _said(result: Selftest) -> str:
    if result.missing is not None:
        return f"not tested: {result.missing}"
    if result.failures:
        return f"FAILED: {'; '.join(result.failures)}"
    edges = f" and {result.edge_inputs} edge inputs" if result.edge_inputs else ""
    largest = f"{result.max_absolute_logits:.1e} in logits, {result.max_absolute_probabilities:.1e} in probabilities"
    judged = "" if result.judges_values else " (single values of this precision are not judged)"
    if result.mean_divergence is not None:
        judged = f", divergence {result.mean_divergence:.1e} nats (single values of this precision are not judged)"
    if result.rounding_ratio is not None:
        judged += f", {result.rounding_ratio:.1f} times what rounding costs PyTorch"
    return (
        f"passed: {result.samples - result.edge_inputs} samples{edges} alone and together, same class on "
        f"{result.top1_agreement:.0%}, largest difference {largest}{judged}"
    )
