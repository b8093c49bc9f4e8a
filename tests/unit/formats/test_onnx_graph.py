from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import graph_of, layers, reddish
from onnx import helper

from toolkit.formats.onnx_graph import extremes, float_tensors, layer_groups, name_nodes, outside_layers

IDENTITY = np.eye(3)
TO_LOGITS = np.eye(2, 3)


def test_what_comes_before_the_first_layer_is_normalisation() -> None:
    assert outside_layers(layers(IDENTITY, TO_LOGITS).graph) == {"transpose", "cast", "normalise"}


def test_arithmetic_on_shapes_is_outside_too() -> None:
    weights = {
        "identity": np.eye(3, 2, dtype=np.float32),
        "axes": np.array([1, 2], np.int64),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], "cast", to=1),
        helper.make_node("MatMul", ["pixels", "identity"], ["scores"], "layer"),
        helper.make_node("Size", ["scores"], ["count"], "size"),
        helper.make_node("Cast", ["count"], ["number"], "number", to=1),
        helper.make_node("Mul", ["number", "half"], ["halved"], "halve"),
        helper.make_node("ReduceMean", ["scores", "axes"], ["means"], "mean", keepdims=0),
        helper.make_node("Div", ["means", "halved"], ["logits"], "divide"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax"),
    ]
    assert outside_layers(graph_of(nodes, weights).graph) == {"cast", "size", "number", "halve"}


def test_a_group_is_a_layer_and_what_follows_it() -> None:
    graph = layers(IDENTITY, TO_LOGITS).graph
    members = {node.name for node in graph.node} - outside_layers(graph) - {"softmax"}
    assert layer_groups(graph, members, 10) == [("conv0", "relu0"), ("conv1", "relu1", "pool", "flatten"), ("head",)]
    assert layer_groups(graph, members, 2) == [("conv0", "relu0", "conv1", "relu1", "pool", "flatten"), ("head",)]
    assert layer_groups(graph, set(), 10) == []


def test_extremes_are_the_largest_over_all_batches(tmp_path: Path) -> None:
    images, _ = reddish(6)
    images[5, 0, 0, 2] = 255
    model = layers(-2 * IDENTITY, TO_LOGITS)
    before = model.SerializeToString()
    found = extremes(model, (images[:4], images[4:]), tmp_path, 1)
    assert found.tensors["x0"] == pytest.approx(1.0)
    assert found.tensors["y0"] == pytest.approx(2.0)
    assert found.tensors["x1"] == 0.0
    assert found.initializers["w0"] == 2.0
    assert model.SerializeToString() == before


def test_extremes_tell_of_a_value_that_is_no_number(tmp_path: Path) -> None:
    weights = {
        "zero": np.array(0, np.float32),
        "axes": np.array([1, 2], np.int64),
        "identity": np.eye(3, 2, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=1),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "zero"], ["nothing"]),
        helper.make_node("Div", ["nothing", "zero"], ["undefined"]),
        helper.make_node("MatMul", ["undefined", "identity"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    images, _ = reddish(4)
    assert np.isnan(extremes(graph_of(nodes, weights), (images[:2], images[2:]), tmp_path, 1).tensors["undefined"])


def test_tensors_are_counted_for_one_image() -> None:
    found = float_tensors(layers(IDENTITY, TO_LOGITS))
    assert found["x0"] == 3 * 4 * 4
    assert found["logits"] == 2
    assert "images" not in found
    assert "planes" not in found


def test_names_that_are_unique_stay_and_the_others_become_so() -> None:
    model = layers(IDENTITY, TO_LOGITS)
    for node in model.graph.node[:2]:
        node.name = ""
    model.graph.node[3].name = model.graph.node[4].name = "twice"
    name_nodes(model)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert "" not in names
    assert names[3] == "twice"
    assert names[-1] == "softmax"
