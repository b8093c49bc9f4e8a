"""What a format is: one file that exports a ``Deployable`` and opens what it exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Calibration = Iterator[npt.NDArray[np.uint8]]
"""Batches of prepared training images, uint8 ``[n, H, W, 3]``, for formats that quantise."""


@dataclass(frozen=True)
class Facts:
    """What an exported file really is, read back from the file."""

    producer: str
    """The engine or exporter that wrote it, with its version."""
    opset: int | None = None
    ir_version: int | None = None
    inputs: Mapping[str, tuple[str, tuple[int | str, ...]]] = field(default_factory=dict)
    """Name to dtype and shape; a dynamic axis is a string. Empty where the format does not record it."""
    outputs: Mapping[str, tuple[str, tuple[int | str, ...]]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportRequest:
    """What is asked of an exporter beside the network itself."""

    input_name: str
    output_names: tuple[str, ...]
    metadata: Mapping[str, str]
    """Labels, contract and origin, to be stored inside the file."""
    opset: int | None = None


class Session(Protocol):
    """An opened artifact."""

    device: str
    """Where it really runs: ``cpu`` or ``cuda``, as the engine says, not as was asked."""
    engine: str
    """The engine with its version."""
    threads: int

    def run(self, inputs: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch.

        Args:
            inputs: what the bundle's input contract says, N first (see ``InputContract.encode``).

        Returns:
            ``logits`` and ``probabilities``, float32 ``[N, C]``, on the host.
        """


class Format(Protocol):
    """An export format. ``toolkit.formats.registry`` finds them; others add theirs under the entry point ``toolkit.formats``."""

    name: str
    precision: str
    suffix: str

    def unavailable(self) -> str | None:
        """Say why this format cannot be exported or opened here, as one sentence with the remedy; None if it can."""

    def export(self, deployable: torch.nn.Module, sample: torch.Tensor, path: Path, request: ExportRequest, calibration: Calibration | None) -> None:
        """Write the network to ``path`` and check that the file is what ``request`` asks for.

        Args:
            deployable: in inference mode, on the CPU; takes one tensor, returns ``(logits, probabilities)``.
            sample: an input of batch size 2 or more, of the contract's dtype and shape.
            path: file to write.
            request: names, metadata, opset.
            calibration: batches of training images; None for formats that do not quantise.

        Raises:
            ExportError: the exporter failed, or quietly made something else.
        """

    def facts(self, path: Path) -> Facts:
        """Read back what the file is."""

    def open(self, path: Path, device: str, threads: int) -> Session:
        """Open the file.

        Args:
            path: the artifact.
            device: ``cpu`` or ``cuda``.
            threads: CPU threads for one call.

        Raises:
            DeviceError: the device cannot be used here.
            MissingDependencyError: the engine is not installed.
            BundleError: the engine refuses the file.
        """
