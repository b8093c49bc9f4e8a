from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolkit.bundle.manifest import InputContract, Normalization
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import BundleError
from toolkit.results import Bisection
from toolkit.verify import bisect
from toolkit.verify.bisect import bisect_artifact
from toolkit.verify.graph import CLASSES, SCOPES, Graph
from toolkit.verify.inputs import make_inputs

SIZE, LAYERS = 6, 30
CONTRACT = InputContract(
    name="images",
    dtype="uint8",
    shape=("N", SIZE, SIZE, 3),
    normalization=Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    normalization_in_graph=True,
)
INPUTS = make_inputs(
    tuple("abcdef"), np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8), seed=0
)


def chain() -> onnx.ModelProto:
    """A chain of convolutions and leaky ReLUs (which never die), named as the exporter names them."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["x0"], "turn", perm=[0, 3, 1, 2]),
    ]
    weights = []
    for layer in range(LAYERS):
        name = f"classifier.layer{layer}.conv.weight"
        weights.append(numpy_helper.from_array(random.normal(0, 0.26, (3, 3, 3, 3)).astype(np.float32), name))
        conv = helper.make_node("Conv", [f"x{layer}", name], [f"c{layer}"], f"conv{layer}", pads=[1, 1, 1, 1])
        relu = helper.make_node("LeakyRelu", [f"c{layer}"], [f"x{layer + 1}"], f"relu{layer}", alpha=0.3)
        for node, scope, kind in ((conv, "bn", "torch.nn.BatchNorm2d"), (relu, "act", "torch.nn.ReLU")):
            node.metadata_props.add(key=SCOPES, value=str(["", "classifier", f"classifier.layer{layer}.{scope}", "op"]))
            node.metadata_props.add(key=CLASSES, value=str(["Deployable", "Net", kind, "aten.op"]))
        nodes += [conv, relu]
    nodes.append(helper.make_node("GlobalMaxPool", [f"x{LAYERS}"], ["logits"], "pool"))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, 1, 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def bisected(
    tmp_path: Path,
    change: Callable[[onnx.ModelProto], None],
    both: Callable[[onnx.ModelProto], None] = lambda model: None,
) -> Bisection:
    good, bad = chain(), chain()
    both(good)
    both(bad)
    change(bad)
    onnx.save(good, tmp_path / "good.onnx")
    onnx.save(bad, tmp_path / "bad.onnx")
    return bisect_artifact(tmp_path / "bad.onnx", tmp_path / "good.onnx", CONTRACT, INPUTS, TOLERANCES["float32"])


def flip_a_sign(layer: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weights = model.graph.initializer[layer]
        values = numpy_helper.to_array(weights).copy()
        place = np.unravel_index(int(np.abs(values).argmax()), values.shape)
        values[place] *= -1
        weights.CopyFrom(numpy_helper.from_array(values, weights.name))

    return change


def test_equal_graphs_have_no_first_node(tmp_path: Path) -> None:
    found = bisected(tmp_path, lambda model: None)
    assert found.first is None
    assert (found.path, found.lacking, found.samples) == ((), (), 6)
    assert found.compared == 2 * LAYERS + 3


@pytest.mark.parametrize("layer", [0, 3, 17, 29])
def test_a_flipped_sign_is_named_with_its_module_and_the_way_there(tmp_path: Path, layer: int) -> None:
    found = bisected(tmp_path, flip_a_sign(layer))
    assert found.first is not None
    assert (found.first.node, found.first.operator, found.first.tensor) == (f"conv{layer}", "Conv", f"c{layer}")
    assert found.first.module == f"classifier.layer{layer}.conv + classifier.layer{layer}.bn (BatchNorm2d)"
    assert found.first.error > 1e-3
    place = found.path.index(found.first)
    assert all(node.error == 0 for node in found.path[:place])
    assert len(found.path) <= bisect.BEFORE + bisect.AFTER + 1
    assert found.compared <= 2 * layer + 3 + bisect.AFTER


def test_a_fault_that_a_later_node_hides_is_found_all_the_same(tmp_path: Path) -> None:
    def ignore_a_channel(model: onnx.ModelProto) -> None:
        weights = model.graph.initializer[5]
        values = numpy_helper.to_array(weights).copy()
        values[:, 0] = 0
        weights.CopyFrom(numpy_helper.from_array(values, weights.name))

    def shift_that_channel_and_a_later_one(model: onnx.ModelProto) -> None:
        for layer in (4, 11):
            bias = numpy_helper.from_array(np.array([1, 0, 0], np.float32), f"bias{layer}")
            model.graph.initializer.append(bias)
            next(node for node in model.graph.node if node.name == f"conv{layer}").input.append(bias.name)

    found = bisected(tmp_path, shift_that_channel_and_a_later_one, ignore_a_channel)
    assert found.first is not None
    assert found.first.node == "conv4"
    assert {node.node: node.error for node in found.path}["conv5"] == 0


def test_a_dropped_layer_is_told_as_lacking_and_the_next_node_diverges(tmp_path: Path) -> None:
    def drop(model: onnx.ModelProto) -> None:
        relu = next(node for node in model.graph.node if node.name == "relu5")
        model.graph.node.remove(relu)
        next(node for node in model.graph.node if node.name == "conv6").input[0] = "c5"

    found = bisected(tmp_path, drop)
    assert found.lacking == ("relu5",)
    assert found.first is not None
    assert found.first.node == "conv6"


def test_another_stride_is_a_shape_that_no_tolerance_allows(tmp_path: Path) -> None:
    def stride(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.name == "conv7")
        node.attribute.append(helper.make_attribute("strides", [2, 2]))

    found = bisected(tmp_path, stride)
    assert found.first is not None
    assert (found.first.node, found.first.error) == ("conv7", math.inf)


def test_a_node_that_cannot_run_is_the_first(tmp_path: Path) -> None:
    def break_it(model: onnx.ModelProto) -> None:
        weights = next(entry for entry in model.graph.initializer if "layer9" in entry.name)
        weights.CopyFrom(numpy_helper.from_array(np.zeros((3, 2, 3, 3), np.float32), weights.name))

    found = bisected(tmp_path, break_it)
    assert found.first is not None
    assert (found.first.node, found.first.error) == ("conv9", math.inf)


def test_few_tensors_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = bisect._run

    def counted(graph: Graph, tensors: list[str], encoded: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(len(tensors))
        return real(graph, tensors, encoded)

    monkeypatch.setattr(bisect, "_run", counted)
    bisected(tmp_path, flip_a_sign(20))
    assert max(asked) == bisect.STEP
    assert sum(asked) < 2 * (2 * 20 + 3 + bisect.AFTER + bisect.STEP)


def test_graphs_of_different_structure_are_refused(tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        renamed = {name for node in model.graph.node for name in node.output} - {"logits"}
        for node in model.graph.node:
            node.output[:] = [f"other_{name}" if name in renamed else name for name in node.output]
            node.input[:] = [f"other_{name}" if name in renamed else name for name in node.input]

    with pytest.raises(
        BundleError, match=r"shares only 1 of 63 nodes with good\.onnx: bisection needs two exports of one network"
    ):
        bisected(tmp_path, rename)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model at all")
    with pytest.raises(BundleError, match="cannot be read as an ONNX model"):
        Graph(tmp_path / "bad.onnx")


def test_a_part_of_a_graph_holds_only_what_it_needs(tmp_path: Path) -> None:
    onnx.save(chain(), tmp_path / "good.onnx")
    part = onnx.load_from_string(Graph(tmp_path / "good.onnx").until(["c1"]))
    assert [node.name for node in part.graph.node] == ["cast", "turn", "conv0", "relu0", "conv1"]
    assert [weight.name for weight in part.graph.initializer] == [
        "classifier.layer0.conv.weight",
        "classifier.layer1.conv.weight",
    ]
    assert [output.name for output in part.graph.output] == ["c1"]
