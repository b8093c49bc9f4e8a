from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import SIDE, graph_of, layers, reddish
from onnx import TensorProto, helper, numpy_helper

from toolkit.bundle.manifest import InputContract, Normalization
from toolkit.compare.tolerances import TOLERANCES, tolerance_for
from toolkit.formats.base import NarrowType
from toolkit.verify.candidate import CannotRunError
from toolkit.verify.inputs import Inputs
from toolkit.verify.value_range import RangeFinding, examine_ranges

NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CONTRACT = InputContract(
    name="images", dtype="uint8", shape=("N", SIDE, SIDE, 3), normalization=NORMALIZATION, normalization_in_graph=True
)
IMAGES = np.full((40, SIDE, SIDE, 3), 255, np.uint8)


def inputs_of(images: np.ndarray, test_images: int | None = None) -> Inputs:
    return Inputs(tuple(map(str, range(len(images)))), images, len(images) if test_images is None else test_images)


def examine(
    model: onnx.ModelProto,
    folder: Path,
    precision: NarrowType,
    images: np.ndarray = IMAGES,
    test_images: int | None = None,
) -> RangeFinding | None:
    path = folder / "model.onnx"
    onnx.save_model(model, path)
    return examine_ranges(path, precision, TOLERANCES[precision], CONTRACT, inputs_of(images, test_images), 1)


def float16(loudness: float) -> onnx.ModelProto:
    """Return a float16 graph of ``logits = mean(pixels) * loudness / loudness``, whose middle value is float16."""
    weights = {
        "to": np.asarray(loudness, np.float16),
        "back": np.asarray(1 / loudness, np.float16),
        "axes": np.array([1, 2], np.int64),
        "spread": np.ones((3, 2), np.float16),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT16),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "to"], ["loud"]),
        helper.make_node("Mul", ["loud", "back"], ["quiet"]),
        helper.make_node("MatMul", ["quiet", "spread"], ["scores"]),
        helper.make_node("Cast", ["scores"], ["logits"], to=TensorProto.FLOAT),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    return graph_of(nodes, weights)


def int8(scale: float, pairs: int = 1) -> onnx.ModelProto:
    """Return a graph whose pixels, 0 to 1, are stored as uint8 of some scale, one after the other.

    All but the first have the right one.
    """
    weights = {
        "by": np.array(1 / 255, np.float32),
        "axes": np.array([1, 2], np.int64),
        "two": np.eye(3, 2, dtype=np.float32),
        "zero": np.uint8(0),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "by"], ["x0"]),
    ]
    for number in range(pairs):
        weights[f"s{number}"] = np.array(1 / 255 if number else scale, np.float32)
        nodes.append(helper.make_node("QuantizeLinear", [f"x{number}", f"s{number}", "zero"], [f"q{number}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{number}", f"s{number}", "zero"], [f"x{number + 1}"]))
    nodes += [
        helper.make_node("ReduceMean", [f"x{pairs}", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "two"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    model = graph_of(nodes, {name: np.asarray(value) for name, value in weights.items()})
    assert numpy_helper.to_array(model.graph.initializer[3]).dtype == np.uint8
    return model


def test_a_value_that_float16_cannot_hold_is_found_though_a_cpu_computes_it_in_float32(tmp_path: Path) -> None:
    found = examine(float16(2.0**12), tmp_path, "float16")
    assert found is not None
    assert found.failures == ("loud reaches 1.04e+06, and float16 holds 65504 at most",)


def test_float16_values_that_fit_pass_and_the_largest_is_told(tmp_path: Path) -> None:
    found = examine(float16(2.0), tmp_path, "float16")
    assert found == RangeFinding((), "the largest of 5 float16 tensors is 765, of 65504 that fit")


def test_a_range_that_is_used_passes(tmp_path: Path) -> None:
    found = examine(int8(1 / 255), tmp_path, "int8", np.concatenate([IMAGES, IMAGES * 0]))
    assert found == RangeFinding((), "1 quantised activations use 100% of their range at the median, the least 100%")


def test_ranges_that_are_hardly_used_fail(tmp_path: Path) -> None:
    found = examine(int8(4 / 255), tmp_path, "int8", np.concatenate([IMAGES, IMAGES * 0]))
    assert found is not None
    (failure,) = found.failures
    assert failure.startswith(
        "half of its 1 quantised activations use 25.0% of their range or less, and a right calibration leaves 33.3% "
        "or more"
    )


def test_one_range_that_is_far_too_wide_is_named(tmp_path: Path) -> None:
    found = examine(int8(32 / 255, pairs=3), tmp_path, "int8", np.concatenate([IMAGES, IMAGES * 0]))
    assert found is not None
    assert found.failures == ("x0 uses 3.1% of its 8-bit range, least 6.2%",)


def test_edge_inputs_do_not_fill_a_range_that_real_images_leave_empty(tmp_path: Path) -> None:
    grey = np.full_like(IMAGES, 8)
    images = np.concatenate([grey, grey * 0, IMAGES])
    assert examine(int8(1 / 255), tmp_path, "int8", images) == RangeFinding(
        (), "1 quantised activations use 100% of their range at the median, the least 100%"
    )
    found = examine(int8(1 / 255), tmp_path, "int8", images, test_images=2 * len(grey))
    assert found is not None
    assert found.failures[-1] == "x0 uses 3.1% of its 8-bit range, least 6.2%"


def test_edge_inputs_count_for_float16(tmp_path: Path) -> None:
    found = examine(
        float16(2.0**12), tmp_path, "float16", np.concatenate([IMAGES * 0, IMAGES]), test_images=len(IMAGES)
    )
    assert found is not None
    assert len(found.failures) == 1


def test_an_activation_that_stays_on_one_level_is_no_fault_of_its_range(tmp_path: Path) -> None:
    found = examine(int8(1 / 255, pairs=3), tmp_path, "int8", IMAGES)
    assert found is not None
    assert [failure for failure in found.failures if failure.startswith("x")] == []


def test_limits_can_be_overridden(tmp_path: Path) -> None:
    onnx.save_model(int8(4 / 255), tmp_path / "model.onnx")
    images = np.concatenate([IMAGES, IMAGES * 0])
    limits = tolerance_for("int8", {"median_range_use": 0.2})
    found = examine_ranges(tmp_path / "model.onnx", "int8", limits, CONTRACT, inputs_of(images), 1)
    assert found is not None
    assert found.failures == ()


def test_there_is_nothing_to_look_at_in_a_float32_graph(tmp_path: Path) -> None:
    assert examine(layers(np.eye(3), np.eye(2, 3)), tmp_path, "int8", reddish(4)[0]) is None


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_file_that_is_no_graph_cannot_be_looked_at(tmp_path: Path, precision: NarrowType) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(CannotRunError, match="the values inside it cannot be looked at"):
        examine_ranges(path, precision, TOLERANCES[precision], CONTRACT, inputs_of(IMAGES), 1)
