from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import graph_of, layers, reddish
from onnx import TensorProto, helper

from toolkit.errors import ExportError
from toolkit.formats.quantization.arithmetic import Arithmetic
from toolkit.formats.quantization.graph import OPERATORS, activation_ranges, preprocess, quantizable, quantize, quiet
from toolkit.formats.quantization.ranges import find_ranges

MODEL = layers(np.eye(3), np.eye(2, 3))


@pytest.fixture
def prepared(tmp_path: Path) -> onnx.ModelProto:
    onnx.save_model(MODEL, tmp_path / "exported.onnx")
    return preprocess(tmp_path / "exported.onnx", tmp_path / "prepared.onnx")


def test_what_is_prepared_is_what_was_written_and_every_node_has_a_name(
    prepared: onnx.ModelProto, tmp_path: Path
) -> None:
    assert onnx.load_model(tmp_path / "prepared.onnx") == prepared
    names = [node.name for node in prepared.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert {entry.domain for entry in prepared.opset_import} == {""}


def test_a_graph_that_cannot_be_prepared_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "exported.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="onnxruntime cannot prepare this network for quantisation"):
        preprocess(tmp_path / "exported.onnx", tmp_path / "prepared.onnx")


def test_neither_normalisation_nor_softmax_is_quantised() -> None:
    assert quantizable(MODEL.graph) == {"conv0", "relu0", "conv1", "relu1", "pool", "flatten", "head"}


def test_only_the_chosen_nodes_are_quantised_and_the_graph_still_runs(
    prepared: onnx.ModelProto, tmp_path: Path
) -> None:
    before = prepared.SerializeToString()
    batches = iter([reddish(8)[0]])
    ranges = find_ranges(tmp_path / "prepared.onnx", OPERATORS, batches, "images", tmp_path)["minmax"]
    model = quantize(prepared, ranges, {"conv0"}, True, Arithmetic("uint8", 8, "a test"))
    assert prepared.SerializeToString() == before
    narrow = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    quantised = {node.name for node in model.graph.node if narrow & set(node.input)}
    assert "conv0" in quantised
    assert not {"conv1", "head"} & quantised
    images = reddish(4)[0]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    exact = onnxruntime.InferenceSession(MODEL.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,), (expected,) = (side.run(["logits"], {"images": images}) for side in (session, exact))
    np.testing.assert_allclose(logits, expected, atol=0.02)
    assert not np.array_equal(logits, expected)


def test_ranges_of_activations_are_read_back_from_scale_and_zero() -> None:
    weights = {
        "tenth": np.array(0.1, np.float32),
        "low": np.array(50, np.uint8),
        "many": np.array([0.1, 0.2], np.float32),
        "zeros": np.array([0, 0], np.uint8),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("QuantizeLinear", ["x", "tenth", "low"], ["q"]),
        helper.make_node("QuantizeLinear", ["y", "many", "zeros"], ["per axis"]),
        helper.make_node("QuantizeLinear", ["images", "tenth", "low"], ["of an input"]),
        helper.make_node("QuantizeLinear", ["y", "tenth"], ["without a zero"]),
    ]
    ranges = activation_ranges(graph_of(nodes, weights).graph)
    assert list(ranges) == ["x"]
    assert ranges["x"] == pytest.approx((-5.0, 20.5))


def test_what_the_quantiser_says_is_not_heard_and_the_log_is_as_before(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogger().level
    with quiet():
        logging.getLogger().warning("loud")
        warnings.warn("loud", stacklevel=1)
    assert logging.getLogger().level == before
    assert caplog.records == []
