"""An ONNX file of a network with random weights, as toolkit exports it: speed does not depend on the weights."""

from __future__ import annotations

from pathlib import Path


def write_onnx(backbone: str, size: int, path: Path) -> None:
    """Write the file.

    Args:
        backbone: as of toolkit.
        size: side of the images, in pixels.
        path: where to.
    """
    # Here, because processes that are measured import the benchmark that imports this.
    import torch

    from toolkit.backbones import create_backbone
    from toolkit.backbones.deployable import Deployable
    from toolkit.formats.base import ExportRequest
    from toolkit.formats.onnx import OnnxFormat

    made = create_backbone(backbone, weights="none", classes=10, image_size=size, seed=0)
    deployable = Deployable(made.model, made.normalization).eval()
    sample = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    OnnxFormat().export(deployable, sample, path, ExportRequest("images", ("logits", "probabilities"), {}), None)
