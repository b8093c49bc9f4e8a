from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from toolkit.errors import BundleError, MissingDependencyError
from toolkit.verify.graph import CLASSES, SCOPES, Graph

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def model_file(colour_bundle: Path) -> Path:
    return colour_bundle / "model.onnx"


@pytest.fixture
def graph(model_file: Path) -> Graph:
    return Graph(model_file)


def test_each_tensor_has_the_node_that_computes_it(graph: Graph) -> None:
    assert graph.producer == {"pixels": 0, "means": 1, "logits": 2, "probabilities": 3}
    assert [node.op_type for node in graph.nodes] == ["Cast", "ReduceMean", "MatMul", "Softmax"]


def test_a_model_can_end_at_any_tensor_and_holds_nothing_else(graph: Graph) -> None:
    content = graph.until(["means"])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (means,) = session.run(None, {"images": IMAGES})
    np.testing.assert_allclose(means, IMAGES.astype(np.float32).mean(axis=(1, 2)), rtol=1e-6)
    ended = onnx.load_from_string(content).graph
    assert [node.op_type for node in ended.node] == ["Cast", "ReduceMean"]
    assert [weight.name for weight in ended.initializer] == ["axes"]


def test_the_whole_model_computes_what_the_file_does(graph: Graph, model_file: Path) -> None:
    whole, file = (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(["logits"], {"images": IMAGES})[0]
        for content in (graph.until(["logits"]), model_file.read_bytes())
    )
    np.testing.assert_array_equal(whole, file)


def test_a_tensor_that_only_a_subgraph_reads_is_kept(tmp_path: Path) -> None:
    outer = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["twice"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])],
        )
        for name, kind in (("yes", "Neg"), ("no", "Abs"))
    }
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Greater", ["x", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["out"], then_branch=branches["yes"], else_branch=branches["no"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "branches",
            [outer],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
            [helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "model.onnx")
    content = Graph(tmp_path / "model.onnx").until(["out"])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([3.0], np.float32)})[0].tolist() == [-6.0]


def test_the_module_of_a_node_is_read_from_its_weights_and_its_notes(model_file: Path, tmp_path: Path) -> None:
    model = onnx.load(model_file)
    node = next(node for node in model.graph.node if node.op_type == "MatMul")
    node.input[1] = "classifier.head.weight"
    weights = next(weight for weight in model.graph.initializer if weight.name == "weights")
    weights.name = "classifier.head.weight"
    onnx.save(model, tmp_path / "model.onnx")
    graph = Graph(tmp_path / "model.onnx")
    assert [graph.module(node) for node in graph.nodes] == ["", "", "classifier.head", ""]
    node.metadata_props.add(key=SCOPES, value="['', 'classifier.head', 'op']")
    node.metadata_props.add(key=CLASSES, value="['Deployable', 'torch.nn.Linear', 'aten.linear']")
    onnx.save(model, tmp_path / "model.onnx")
    graph = Graph(tmp_path / "model.onnx")
    assert graph.module(graph.nodes[2]) == "classifier.head (Linear)"


@pytest.mark.parametrize("note", ["no list", "['cut", "{'a': 1}"])
def test_a_note_that_is_written_otherwise_is_no_note(model_file: Path, tmp_path: Path, note: str) -> None:
    model = onnx.load(model_file)
    model.graph.node[0].metadata_props.add(key=SCOPES, value=note)
    onnx.save(model, tmp_path / "model.onnx")
    graph = Graph(tmp_path / "model.onnx")
    assert graph.module(graph.nodes[0]) == ""


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be read as an ONNX model"):
        Graph(tmp_path / "model.onnx")


def test_without_the_onnx_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match="pip install onnx"):
        Graph(tmp_path / "model.onnx")
