from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable, TorchSession
from toolkit.bundle.manifest import Normalization
from toolkit.data.calibration import calibration_of_arrays
from toolkit.errors import ExportError
from toolkit.formats.base import Calibration, Exported, ExportRequest, NotExported
from toolkit.formats.onnx_int8 import OnnxInt8Format
from toolkit.formats.quantization.arithmetic import arithmetic_here

REQUEST = ExportRequest(
    "images", ("logits", "probabilities"), {"toolkit.labels": '["ä", "猫"]'}, opset=18, ir_version=8
)
SAMPLE = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)


def deployable() -> Deployable:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )
    return Deployable(model, Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


def calibration(max_drop: float) -> Calibration:
    targets = TorchSession(deployable()).run(IMAGES)["logits"].argmax(axis=1)
    return calibration_of_arrays(IMAGES[:32], IMAGES, targets, lambda images: images, max_drop)


def test_the_file_is_quantised_keeps_its_metadata_and_has_the_versions_asked_for(tmp_path: Path) -> None:
    made = OnnxInt8Format().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, calibration(20))
    assert isinstance(made, Exported)
    facts = OnnxInt8Format().facts(tmp_path / "model.onnx")
    assert dict(facts.metadata) == dict(REQUEST.metadata)
    assert (facts.opset, facts.ir_version) == (18, 8)
    model = onnx.load_model(tmp_path / "model.onnx")
    assert {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4} >= {onnx.TensorProto.INT8}
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) >= 2
    assert made.quantization is not None
    assert made.quantization.weight_bits == arithmetic_here().weight_bits


def test_where_no_drop_is_small_enough_there_is_a_reason_and_no_file(tmp_path: Path) -> None:
    made = OnnxInt8Format().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, calibration(-1))
    assert isinstance(made, NotExported)
    assert "keeps the accuracy on 64 validation images; of the best: it loses" in made.reason
    assert "more than -1 (--max-drop)" in made.reason
    assert "one of 64 images is 1.56 points: give it more validation images" in made.reason
    assert made.quantization is not None
    assert made.quantization.candidates
    assert list(tmp_path.iterdir()) == []


def test_it_needs_images(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="by training and validation images, and none were given"):
        OnnxInt8Format().export(deployable(), SAMPLE, tmp_path / "model.onnx", REQUEST, None)
