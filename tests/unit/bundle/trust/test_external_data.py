from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from toolkit.bundle.trust.external_data import external_locations


def external(location: str, name: str = "weights") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(*initializers: TensorProto, nodes: list[onnx.NodeProto] | None = None) -> ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    inside = numpy_helper.from_array(np.arange(2, dtype=np.float32), "inside")
    return helper.make_model(helper.make_graph(nodes or [], "graph", [value], [value], [inside, *initializers]))


def in_initializer() -> ModelProto:
    return model(external("there"))


def in_sparse_initializer() -> ModelProto:
    made = model()
    made.graph.sparse_initializer.add().values.CopyFrom(external("there"))
    return made


def in_attribute() -> ModelProto:
    return model(nodes=[helper.make_node("Constant", [], ["y"], value=external("there"))])


def in_list_of_tensors() -> ModelProto:
    node = helper.make_node("Custom", [], ["y"])
    node.attribute.append(AttributeProto(name="all", type=AttributeProto.TENSORS, tensors=[external("there")]))
    return model(nodes=[node])


def in_branch() -> ModelProto:
    branch = helper.make_graph([], "branch", [], [], [external("there")])
    outer = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=branch)], "outer", [], [])
    return model(nodes=[helper.make_node("If", ["c"], ["y"], then_branch=outer)])


def in_function() -> ModelProto:
    made = model()
    node = helper.make_node("Constant", [], ["y"], value=external("there"))
    made.functions.append(helper.make_function("own", "f", [], ["y"], [node], [helper.make_opsetid("", 18)]))
    return made


def in_default_of_function() -> ModelProto:
    made = model()
    made.functions.add(name="f", domain="own").attribute_proto.add(name="a", type=AttributeProto.TENSOR).t.CopyFrom(
        external("there")
    )
    return made


def in_training() -> ModelProto:
    made = model()
    made.training_info.add().initialization.initializer.append(external("there"))
    return made


PLACES = (
    in_initializer,
    in_sparse_initializer,
    in_attribute,
    in_list_of_tensors,
    in_branch,
    in_function,
    in_default_of_function,
    in_training,
)


@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
def test_external_data_are_found_wherever_a_tensor_can_be(tmp_path: Path, make: Callable[[], ModelProto]) -> None:
    (tmp_path / "model.onnx").write_bytes(make().SerializeToString())
    assert list(external_locations((tmp_path / "model.onnx").read_bytes())) == ["there"]


def test_a_model_that_holds_its_weights_points_nowhere(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model().SerializeToString())
    assert list(external_locations((tmp_path / "model.onnx").read_bytes())) == []


def test_external_data_without_a_location_are_an_empty_one(tmp_path: Path) -> None:
    tensor = external("there")
    del tensor.external_data[1]
    (tmp_path / "model.onnx").write_bytes(model(tensor).SerializeToString())
    assert list(external_locations((tmp_path / "model.onnx").read_bytes())) == [""]


def test_an_entry_with_two_values_has_two_locations(tmp_path: Path) -> None:
    """Which of the two an engine takes is its own affair."""
    tensor = TensorProto()
    entry = b"\x0a\x08location" + b"\x12\x05first" + b"\x12\x06second"
    raw = tensor.SerializeToString() + b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(raw)]) + raw
    (tmp_path / "model.onnx").write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
    assert (
        onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer[0].external_data[0].value
        == "second"
    )
    assert list(external_locations((tmp_path / "model.onnx").read_bytes())) == ["first", "second"]


def test_an_enumeration_has_32_bits(tmp_path: Path) -> None:
    raw = b"\x70\x81\x80\x80\x80\x10"
    graph = b"\x2a" + bytes([len(raw)]) + raw
    (tmp_path / "model.onnx").write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
    loaded = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert loaded.graph.initializer[0].data_location == TensorProto.EXTERNAL
    assert list(external_locations((tmp_path / "model.onnx").read_bytes())) == [""]


@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
def test_a_file_cut_anywhere_is_whole_by_its_own_account_or_refused(
    tmp_path: Path, make: Callable[[], ModelProto]
) -> None:
    """What this reader lets through, the official one parses, and both see the same tensors."""
    content = make().SerializeToString()
    for length in range(1, len(content)):
        (tmp_path / "model.onnx").write_bytes(content[:length])
        try:
            found = list(external_locations((tmp_path / "model.onnx").read_bytes()))
        except ValueError:
            continue
        parsed = ModelProto.FromString(content[:length])
        assert found == (["there"] if b"there" in parsed.SerializeToString() else [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"not a model", "it is not"),
        (b"\x3b\x3c", "holds wire type 3"),
        (b"\x3a\x7f", "leads out of its message"),
        (b"\x3a" + b"\x80" * 12, "a number is cut off"),
        (b"\x02\x00", "leads out of its message"),
    ],
)
def test_what_is_no_protobuf_message_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        list(external_locations((tmp_path / "model.onnx").read_bytes()))
