"""The setting that was measured to be the best one on a machine like this, for ``load(..., tuned=...)``."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias, get_args

from toolkit import provenance
from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.bundle.manifest import BenchSummary
from toolkit.errors import MOST_THREADS, BundleError, ToolkitError
from toolkit.printable import printable
from toolkit.results import Tuned

Purpose: TypeAlias = Literal["latency", "throughput"]
"""The latency of one image, or images per second."""
PURPOSES: tuple[str, ...] = get_args(Purpose)


class NotTunedHereWarning(UserWarning):
    """The setting was measured on another machine, so the defaults are used."""


def require_purpose(purpose: object) -> str:
    """Return a purpose.

    Raises:
        ToolkitError: it is none.
    """
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        raise ToolkitError(f"tuned is {purpose!r}: give {' or '.join(map(repr, PURPOSES))}, or leave it out.")
    return purpose


def tuned_setting(bundle: Bundle, artifact: ArtifactRecord, device: str, purpose: str) -> Tuned | None:
    """Return the setting that was measured for a purpose; None, with a warning, where that was on another machine.

    Args:
        bundle: where the artifact is from, for messages.
        artifact: its entry in the manifest.
        device: ``cpu`` or ``cuda``.
        purpose: see ``Purpose``.

    Raises:
        BundleError: no setting was measured on the device, or it takes more threads than any machine has.
    """
    found = _measured(artifact, device, purpose)
    if not found:
        raise BundleError(
            f"{artifact.file} of {bundle.path} was not tuned for {purpose} on {device}: run 'toolkit bench --sweep' in "
            "its run on this machine, or leave tuned out."
        )
    summary, setting = found[0]
    if setting.streams * setting.threads > MOST_THREADS:
        raise BundleError(
            f"{artifact.file} of {bundle.path} was tuned for {purpose} with {setting.streams} streams of "
            f"{setting.threads} threads, and more than {MOST_THREADS} threads are not started: run 'toolkit bench "
            "--sweep' in its run on this machine, or leave tuned out."
        )
    here, cores = provenance.computing_part(device), provenance.available_cores()
    if _is_of(summary, setting, here, cores):
        return setting
    warnings.warn(
        f"{artifact.file} was tuned for {purpose} on {_said(summary.processor, setting.cores, device)}, and this is "
        f"{_said(here, cores, device)}: the defaults are used. Run 'toolkit bench --sweep' on this machine.",
        NotTunedHereWarning,
        stacklevel=2,
    )
    return None


def is_tuned_here(artifact: ArtifactRecord, device: str, purpose: Purpose) -> bool:
    """Tell whether a setting was measured for a purpose, and on a machine like this.

    Args:
        artifact: its entry in the manifest.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        purpose: see ``Purpose``.
    """
    here, cores = provenance.computing_part(device), provenance.available_cores()
    return any(_is_of(summary, setting, here, cores) for summary, setting in _measured(artifact, device, purpose)[:1])


def _measured(artifact: ArtifactRecord, device: str, purpose: str) -> list[tuple[BenchSummary, Tuned]]:
    return [
        (summary, setting)
        for summary in artifact.benchmarks
        if summary.device == device
        for setting in summary.tuned
        if setting.purpose == purpose
    ]


def _is_of(summary: BenchSummary, setting: Tuned, processor: str, cores: int) -> bool:
    return summary.processor == processor and (summary.device != "cpu" or setting.cores in (None, cores))


def _said(processor: str, cores: int | None, device: str) -> str:
    shown = printable(processor)
    return shown if device != "cpu" or cores is None else f"{cores} {'core' if cores == 1 else 'cores'} of {shown}"
