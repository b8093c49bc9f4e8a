"""A fresh ONNX export of a network: what bisection compares a failing one with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from toolkit.backbones.deployable import Deployable
from toolkit.bundle.manifest import InputContract
from toolkit.compare.verdict import OUTPUTS
from toolkit.formats.base import ExportRequest
from toolkit.formats.onnx import OnnxFormat


@contextmanager
def fresh_export(deployable: Deployable, contract: InputContract, opset: int | None) -> Iterator[Path]:
    """Yield the path of a float32 export that is removed when the block ends.

    The exporter gives the same names every time.

    Args:
        deployable: the network, in float32 on the CPU.
        contract: its input.
        opset: that of the failing artifact.

    Raises:
        ExportError: it cannot be exported.
    """
    height, width = (
        int(axis) for axis in (contract.shape[1:3] if contract.normalization_in_graph else contract.shape[2:4])
    )
    sample = torch.from_numpy(contract.encode(np.zeros((2, height, width, 3), np.uint8)))
    with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
        path = Path(folder, "reference.onnx")
        OnnxFormat().export(deployable, sample, path, ExportRequest(contract.name, OUTPUTS, {}, opset), None)
        yield path
