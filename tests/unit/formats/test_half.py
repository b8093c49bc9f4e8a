from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from graphs import graph_of, layers, reddish
from onnx import TensorProto, helper, numpy_helper

from toolkit.bundle.content import Content
from toolkit.formats.half import SMALLEST_FLOAT16, to_float16
from toolkit.formats.onnx import OnnxSession

IDENTITY = np.eye(3)
TO_LOGITS = np.eye(2, 3)
ALWAYS = {"transpose", "cast", "normalise", "softmax"}


def run(model: onnx.ModelProto, folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, folder / "model.onnx")
    return OnnxSession(Content.of(folder / "model.onnx"), "cpu", 1).run(images)


def types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_layers_become_float16_and_the_contract_stays(tmp_path: Path) -> None:
    model, images = layers(IDENTITY / 3, TO_LOGITS), reddish(6)[0]
    converted = to_float16(model, ALWAYS)
    assert {
        numpy_helper.to_array(tensor).dtype.name
        for tensor in converted.graph.initializer
        if tensor.name.startswith("w")
    } == {"float16"}
    assert {types(converted)[name] for name in ("logits", "probabilities")} == {TensorProto.FLOAT}
    assert types(converted)["images"] == TensorProto.UINT8
    assert next(node for node in converted.graph.node if node.name == "conv1").input[0] == "x1/float16"
    expected, actual = run(model, tmp_path, images), run(converted, tmp_path, images)
    for name in expected:
        assert actual[name].dtype == np.float32
        np.testing.assert_allclose(actual[name], expected[name], atol=2e-3)
    # A third is no float16, so a result that is the same was not computed with the converted weights.
    assert not np.array_equal(actual["logits"], expected["logits"])


def test_a_value_between_two_kept_nodes_is_never_cast_to_float16(tmp_path: Path) -> None:
    model, images = layers(1e6 * IDENTITY, 1e-6 * TO_LOGITS), reddish(6)[0]
    everything = run(to_float16(model, ALWAYS), tmp_path, images)
    assert not np.isfinite(everything["logits"]).all()
    kept = run(to_float16(model, ALWAYS | {"conv0", "relu0", "conv1"}), tmp_path, images)
    np.testing.assert_allclose(kept["logits"], run(model, tmp_path, images)["logits"], rtol=2e-3)


def test_a_tensor_is_cast_once_for_all_that_read_it() -> None:
    converted = to_float16(layers(IDENTITY, IDENTITY, TO_LOGITS), ALWAYS | {"relu0"})
    casts = [
        (node.input[0], node.output[0])
        for node in converted.graph.node
        if node.op_type == "Cast" and node.name != "cast"
    ]
    assert casts == [("x0", "x0/float16"), ("y0/float16", "y0"), ("x1", "x1/float16"), ("logits/float16", "logits")]


def test_operators_keep_the_types_their_schema_fixes(tmp_path: Path) -> None:
    """The scales of Resize are float32 in every variant, and what ConstantOfShape makes is decided by its attribute."""
    weights = {
        "scales": np.array([1, 2, 2, 1], np.float32),
        "axes": np.array([1, 2], np.int64),
        "identity": np.eye(3, 2, dtype=np.float32),
        "length": np.array([3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Resize", ["pixels", "", "scales"], ["larger"], "resize", mode="nearest"),
        helper.make_node("ReduceMean", ["larger", "axes"], ["means"], "mean", keepdims=0),
        helper.make_node(
            "ConstantOfShape",
            ["length"],
            ["ones"],
            "ones",
            value=helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0]),
        ),
        helper.make_node("Add", ["means", "ones"], ["shifted"], "add"),
        helper.make_node("MatMul", ["shifted", "identity"], ["logits"], "head"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax"),
    ]
    model, images = graph_of(nodes, weights), reddish(3)[0]
    converted = to_float16(model, set())
    kinds = types(converted)
    assert kinds["pixels/float16"] == kinds["larger/float16"] == kinds["shifted/float16"] == TensorProto.FLOAT16
    assert kinds["ones"] == TensorProto.FLOAT
    assert next(node for node in converted.graph.node if node.name == "resize").input[2] == "scales"
    np.testing.assert_allclose(
        run(converted, tmp_path, images)["logits"], run(model, tmp_path, images)["logits"], rtol=2e-3
    )


def test_what_is_not_zero_stays_so() -> None:
    model = layers(np.diag([1.0, 1e-12, -1e-12]), TO_LOGITS)
    converted = to_float16(model, ALWAYS)
    weight = next(
        numpy_helper.to_array(tensor) for tensor in converted.graph.initializer if tensor.name == "w0/float16"
    )
    assert weight[1, 1, 0, 0] == SMALLEST_FLOAT16
    assert weight[2, 2, 0, 0] == -SMALLEST_FLOAT16
    assert weight[0, 1, 0, 0] == 0
