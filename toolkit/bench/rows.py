"""Which rows the table has.

PyTorch itself in two memory layouts and every artifact, on every device that is asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toolkit import provenance
from toolkit.bundle import ArtifactRecord, Bundle, Manifest
from toolkit.dependencies import import_optional
from toolkit.devices import AUTO, check_device
from toolkit.errors import MissingDependencyError
from toolkit.formats.onnx import import_onnxruntime
from toolkit.formats.opening import not_opened
from toolkit.run_folder import FinishedRun

PYTORCH_ROWS = (("eager", False), ("channels_last", True))
"""Name and whether the network is in channels-last memory layout."""
PYTORCH_FACTORY = "toolkit.bench.sessions:pytorch"
ARTIFACT_FACTORY = "toolkit.bench.sessions:artifact"


@dataclass(frozen=True)
class Plan:
    """A row before it is measured."""

    name: str
    file: str
    sha256: str
    size_bytes: int
    device: str
    """``cpu``, ``cuda`` or ``cuda:N``."""
    factory: str
    """See ``toolkit.bench.job.Job``."""
    arguments: dict[str, Any]
    precision: str = "float32"
    """What it computes in."""
    refused: str | None = None
    """Why it must not be measured; None if it may."""
    artifact: ArtifactRecord | None = None
    """Its entry in the manifest; None for PyTorch itself."""


def devices(asked: str) -> tuple[str, ...]:
    """Return the devices to measure on.

    Those asked for, or with ``auto`` the CPU, and CUDA where there is a GPU that an engine can use.

    Raises:
        DeviceError: there is no such device.
    """
    if asked != AUTO:
        return (check_device(asked, AUTO),)
    return ("cpu", "cuda") if _cuda_usable() else ("cpu",)


def plan_rows(run: FinishedRun, bundle: Bundle, on: Sequence[str], threads: int) -> list[Plan]:
    """Return the rows in the order of the table: device by device, PyTorch first."""
    plans, manifest = [], bundle.manifest
    for device in on:
        plans += [_pytorch(run, manifest, name, device, threads, channels_last) for name, channels_last in PYTORCH_ROWS]
        plans += [artifact_plan(bundle, artifact, device, threads) for artifact in manifest.artifacts]
    return plans


def _pytorch(run: FinishedRun, manifest: Manifest, name: str, device: str, threads: int, channels_last: bool) -> Plan:
    record, weights = run.record, run.folder.model_file
    return Plan(
        name=name,
        file=weights.name,
        sha256=record.model_sha256,
        size_bytes=weights.stat().st_size,
        device=device,
        factory=PYTORCH_FACTORY,
        arguments={
            "backbone": record.backbone,
            "classes": len(record.labels),
            "image_size": record.preprocessing.height,
            "weights": str(weights.resolve()),
            "normalization": record.normalization.model_dump(mode="json"),
            "takes_images": manifest.input.normalization_in_graph,
            "flip_test": record.flip_test,
            "device": device,
            "threads": threads,
            "channels_last": channels_last,
        },
    )


def artifact_plan(bundle: Bundle, artifact: ArtifactRecord, device: str, threads: int) -> Plan:
    """Return the row of an artifact; one that failed verification or must not be opened is refused, with the reason."""
    verdict = artifact.parity
    refused = not_opened(bundle, artifact)
    if verdict is not None and not verdict.passed:
        refused = f"failed verification: {verdict.failures[0] if verdict.failures else 'no reason was recorded'}"
    return Plan(
        name=artifact.format,
        file=artifact.file,
        sha256=artifact.sha256,
        size_bytes=artifact.total_bytes,
        device=device,
        factory=ARTIFACT_FACTORY,
        arguments={
            "bundle": str(bundle.path.resolve()),
            "artifact": artifact.model_dump(mode="json"),
            "files": {name: record.model_dump(mode="json") for name, record in bundle.files.items()},
            "device": device,
            "threads": threads,
        },
        precision=artifact.precision,
        refused=refused,
        artifact=artifact,
    )


def _cuda_usable() -> bool:
    """Say whether PyTorch or onnxruntime can use a GPU here."""
    # A package that is missing or broken finds no GPU; what needs it says so by itself.
    with contextlib.suppress(MissingDependencyError):
        if import_optional("torch", "torch is not installed").cuda.is_available():
            return True
    try:
        onnxruntime = import_onnxruntime()
    except MissingDependencyError:
        return False
    # The provider is listed in every CUDA build, with or without a GPU; whether it loads shows when a row is opened.
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers() and provenance.hardware().gpu is not None
