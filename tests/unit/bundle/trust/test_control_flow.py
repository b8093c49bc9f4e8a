from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from toolkit.bundle.trust.control_flow import onnx_control_flow, openvino_control_flow

VALUE = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])


def graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "graph", [VALUE], [VALUE])


def loop(kind: str) -> onnx.NodeProto:
    return helper.make_node(kind, ["x"], ["x"], body=graph(helper.make_node("Relu", ["x"], ["x"])))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([helper.make_node("Relu", ["x"], ["x"])], None),
        ([loop("If")], None),
        ([loop("Loop")], "a Loop"),
        ([helper.make_node("Relu", ["x"], ["x"]), loop("Scan")], "a Scan"),
        ([helper.make_node("If", ["x"], ["x"], then_branch=graph(loop("Loop")))], "a Loop"),
    ],
)
def test_loops_of_an_onnx_file_are_found_however_deep(nodes: list[onnx.NodeProto], said: str | None) -> None:
    assert onnx_control_flow(helper.make_model(graph(*nodes)).SerializeToString()) == said


def test_functions_of_an_onnx_file_are_found() -> None:
    relu = helper.make_node("Relu", ["x"], ["x"])
    function = helper.make_function("own", "F", ["x"], ["x"], [relu], [helper.make_opsetid("", 20)])
    model = helper.make_model(graph(relu), functions=[function])
    assert onnx_control_flow(model.SerializeToString()) == "functions of its own"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'<net><layer type="ReLU"/></net>', None),
        (b'<net><layers><layer id="1" type="TensorIterator"/></layers></net>', "a TensorIterator"),
        (b"<net><layer type='&#76;oop'></layer></net>", "a Loop"),
        (b"<net>" + b"<a>" * 100_000 + b'<layer type="Loop"/>' + b"</a>" * 100_000 + b"</net>", "a Loop"),
    ],
)
def test_loops_of_an_openvino_description_are_found(content: bytes, said: str | None) -> None:
    assert openvino_control_flow(content) == said


def test_what_cannot_be_looked_through_says_so() -> None:
    with pytest.raises(ValueError, match="it is empty"):
        onnx_control_flow(b"")
    with pytest.raises(ValueError, match="it is no XML"):
        openvino_control_flow(b"<net><layer></net>")
