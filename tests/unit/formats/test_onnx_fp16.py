from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable, TorchSession
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Normalization
from toolkit.data.calibration import calibration_of_arrays
from toolkit.errors import ExportError
from toolkit.formats import onnx_fp16
from toolkit.formats.base import Calibration, Exported, ExportRequest
from toolkit.formats.onnx_fp16 import OnnxFp16Format, too_large
from toolkit.formats.onnx_graph import Extremes

REQUEST = ExportRequest("images", ("logits", "probabilities"), {"toolkit.run": "test"})
SAMPLE = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def calibration() -> Calibration:
    return calibration_of_arrays(IMAGES, IMAGES[:1], np.zeros(1, np.int64), lambda images: images, 0.5)


def deployable(loudness: float) -> Deployable:
    """A network whose middle layer makes values of about ``loudness``, which the next layer makes small again."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU()]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        model[2].weight *= loudness
        model[3].weight /= loudness
    return Deployable(model, Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


def test_values_beyond_float16_are_found_and_stay_in_float32(tmp_path: Path) -> None:
    network = deployable(1e6)
    made = OnnxFp16Format().export(network, SAMPLE, tmp_path / "model.onnx", REQUEST, calibration())
    assert isinstance(made, Exported)
    graph = onnx.load_model(tmp_path / "model.onnx").graph
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    assert [name in made.kept_float32 for name in convolutions] == [False, True, True]
    actual = OnnxFp16Format().open(Content.of(tmp_path / "model.onnx"), "cpu", 1).run(IMAGES)
    np.testing.assert_allclose(actual["logits"], TorchSession(network).run(IMAGES)["logits"], atol=5e-3)


def test_where_everything_fits_nothing_is_kept(tmp_path: Path) -> None:
    made = OnnxFp16Format().export(deployable(1.0), SAMPLE, tmp_path / "model.onnx", REQUEST, calibration())
    assert isinstance(made, Exported)
    assert made.kept_float32 == ()
    weights = [
        tensor
        for tensor in onnx.load_model(tmp_path / "model.onnx").graph.initializer
        if len(tensor.dims) == 4 and max(tensor.dims) > 1
    ]
    assert sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in weights) == 3


def test_an_overflow_that_was_not_foreseen_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_fp16, "too_large", lambda graph, found: set())
    with pytest.raises(ExportError, match="in float16 the logits of a training image are not finite"):
        OnnxFp16Format().export(deployable(1e6), SAMPLE, tmp_path / "model.onnx", REQUEST, calibration())


def test_values_need_headroom_and_must_be_numbers() -> None:
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [node("Relu", ["a"], ["b"], "r"), node("Relu", ["b"], ["c"], "s"), node("Relu", ["c"], ["d"], "t")], "g", [], []
    )
    limit = 65504 / onnx_fp16.HEADROOM
    assert too_large(graph, Extremes({"a": limit, "b": limit, "c": limit, "d": limit}, {})) == set()
    assert too_large(graph, Extremes({"a": 2 * limit, "b": 1.0, "c": 1.0, "d": 1.0}, {})) == {"r"}
    assert too_large(graph, Extremes({"a": 1.0, "b": float("nan"), "c": 1.0, "d": 1.0}, {})) == {"r", "s"}
    assert too_large(graph, Extremes({"b": 1.0, "c": 1.0, "d": float("inf")}, {"a": 1.0})) == {"t"}
    assert too_large(graph, Extremes({}, {"a": 1e5})) == {"r"}


def test_it_needs_images(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="on training images, and none were given"):
        OnnxFp16Format().export(deployable(1.0), SAMPLE, tmp_path / "model.onnx", REQUEST, None)
