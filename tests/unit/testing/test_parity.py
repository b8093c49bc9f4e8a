from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import BundleError, RecipeError
from toolkit.testing import assert_parity

WEIGHT = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
Y = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)


def two_in_two_out(weight: np.ndarray = WEIGHT) -> bytes:
    """An ONNX model: ``sum = x @ weight + y`` and ``positive = sum > 0``."""
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"]),
        helper.make_node("Add", ["product", "y"], ["sum"]),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3]),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("positive", TensorProto.BOOL, ["N", 3]),
        ],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.float32(0), "zero")],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    )


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.from_numpy(WEIGHT))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = self.drop(x) @ self.weight + y
        return total, total > 0


def test_a_module_and_a_file_with_several_inputs_by_name(tmp_path: Path) -> None:
    onnx.save_model(onnx.load_from_string(two_in_two_out()), tmp_path / "two.onnx")
    module = Module()
    assert module.training
    found = assert_parity(module, tmp_path / "two.onnx", {"x": X, "y": torch.from_numpy(Y)})
    assert module.training
    assert module.drop.training
    assert list(found) == ["sum"]
    assert found["sum"].elements == 12
    assert found["sum"].max_absolute < 1e-5


@pytest.mark.parametrize(
    "side", [two_in_two_out(), onnxruntime.InferenceSession(two_in_two_out(), providers=["CPUExecutionProvider"])]
)
def test_bytes_and_sessions_take_inputs_in_order(side: object) -> None:
    assert assert_parity(Module(), side, (X, Y))["sum"].elements == 12


def test_functions_with_one_input_and_one_output() -> None:
    found = assert_parity(lambda x: x @ WEIGHT, lambda x: {"product": x @ WEIGHT}, X)
    assert list(found) == ["product"]


def test_the_message_says_where_what_and_what_was_allowed() -> None:
    changed = WEIGHT.copy()
    changed[2, 1] += 1
    with pytest.raises(AssertionError) as caught:
        assert_parity(Module(), two_in_two_out(changed), {"x": X, "y": Y}, tolerance=1e-3)
    row = int(np.abs(X[:, 2]).argmax())
    expected = X @ WEIGHT + Y
    text = str(caught.value)
    found = re.match(
        r"output 'sum' differs at \[(\d), (\d)\]: reference (\S+), artifact (\S+), error (\S+), allowed (\S+); 4 of "
        r"12 elements",
        text,
    )
    assert found is not None, text
    assert (int(found[1]), int(found[2])) == (row, 1)
    assert float(found[3]) == pytest.approx(expected[row, 1], rel=1e-5)
    assert float(found[4].rstrip(",")) == pytest.approx(expected[row, 1] + X[row, 2], rel=1e-5)
    assert float(found[6].rstrip(";")) == pytest.approx(1e-3 + 1e-3 * np.abs(expected[row]).max(), rel=1e-2)


@pytest.mark.parametrize("tolerance", ["float32", "float16", 1e-5, TOLERANCES["bfloat16"]])
def test_a_tolerance_is_a_precision_a_number_or_a_record(tolerance: object) -> None:
    assert_parity(lambda x: x, lambda x: x, X, tolerance=tolerance)  # type: ignore[arg-type]  # each kind in turn
    with pytest.raises(AssertionError, match="output '0' differs"):
        assert_parity(lambda x: x, lambda x: x + np.float32(1), X, tolerance=tolerance)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("tolerance", "sentence"),
    [("int8", "judges agreement"), (-1.0, "cannot be -1"), (math.nan, "cannot be nan"), ("int3", "no tolerance")],
)
def test_a_tolerance_that_judges_nothing_is_refused(tolerance: object, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        assert_parity(lambda x: x, lambda x: x, X, tolerance=tolerance)  # type: ignore[arg-type]  # bad on purpose


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("both", [True, False])
def test_what_is_not_finite_fails_even_where_both_sides_agree(bad: float, both: bool) -> None:
    broken = X.copy()
    broken[1, 2] = bad
    with pytest.raises(AssertionError, match=rf"is {bad} at \[1, 2\], and not finite on 1 of 20 elements"):
        assert_parity(lambda x: broken if both else x, lambda x: broken, X, tolerance=1e9)


@pytest.mark.parametrize(
    ("actual", "sentence"),
    [
        ({"a": X, "c": X}, "output 'b' is missing; the artifact returns a, c"),
        ({"a": X, "b": X, "c": X}, "an output 'c' that the reference does not have"),
        ({"a": X, "b": X[:2]}, r"output 'b' has the shape \[2, 5\] instead of \[4, 5\]"),
        ({"a": X, "b": X.astype(np.float64)}, "output 'b' is float64 instead of float32"),
        ((X,), "the artifact returns 1 outputs, the reference 2"),
    ],
)
def test_outputs_of_another_form_fail(actual: object, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        assert_parity(lambda x: {"a": X, "b": X}, lambda x: actual, X)


def test_integers_and_booleans_must_be_equal() -> None:
    numbers = np.arange(4)
    assert assert_parity(lambda x: numbers, lambda x: numbers.copy(), X) == {}
    with pytest.raises(AssertionError, match=r"output '0' differs at \[3\]: reference 3, artifact 9"):
        assert_parity(lambda x: numbers, lambda x: np.array([0, 1, 2, 9]), X, tolerance=1e9)


def test_nothing_returned_is_not_a_pass() -> None:
    with pytest.raises(AssertionError, match="nothing was compared"):
        assert_parity(lambda x: {}, lambda x: {}, X)


def test_inputs_that_do_not_fit_a_session_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"the session takes x, y, and 1 inputs were given \(x\)"):
        assert_parity(two_in_two_out(), two_in_two_out(), X)
    with pytest.raises(RecipeError, match=r"takes x, y, and 2 inputs were given \(x, z\)"):
        assert_parity(two_in_two_out(), two_in_two_out(), {"x": X, "z": Y})


def test_sides_that_cannot_be_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a int cannot be run"):
        assert_parity(7, lambda x: x, X)
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match=r"onnxruntime refuses .*broken\.onnx"):
        assert_parity(lambda x: x, tmp_path / "broken.onnx", X)
