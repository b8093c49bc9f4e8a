from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from toolkit.errors import BundleError, MissingDependencyError, RecipeError
from toolkit.testing.sides import run_side

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def model(colour_bundle: Path) -> Path:
    return colour_bundle / "model.onnx"


@pytest.mark.parametrize("kind", [str, Path, Path.read_bytes, lambda path: onnxruntime.InferenceSession(str(path))])
def test_a_file_its_bytes_and_a_session_answer_by_name(
    model: Path, kind: Callable[[Path], object], colour_image: Callable[[str], np.ndarray]
) -> None:
    outputs = run_side(kind(model), {"images": colour_image("red")[None]})
    assert list(outputs) == ["logits", "probabilities"]
    assert outputs["probabilities"].shape == (1, 3)  # type: ignore[call-overload]  # it is a mapping
    assert outputs["probabilities"].argmax() == 2  # type: ignore[call-overload]  # as above


def test_a_function_gets_arrays_in_order_or_by_name() -> None:
    assert run_side(lambda x, y: x - y, [torch.ones(2), np.ones(2)]) == [pytest.approx(np.zeros(2))]
    assert run_side(lambda x, y: x - y, {"y": np.ones(2), "x": np.zeros(2)}) == [pytest.approx(-np.ones(2))]
    assert list(run_side(lambda x: {"double": 2 * x}, X)) == ["double"]


def test_a_module_runs_in_inference_mode_and_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Flatten())
    module[1].eval()
    (output,) = run_side(module, X)
    assert output == pytest.approx(X, abs=1e-4)
    assert [part.training for part in module] == [True, False, True]


def test_a_module_that_fails_is_put_back_too() -> None:
    module = nn.Sequential(nn.Linear(7, 1))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_side(module, X)
    assert module[0].training


def test_what_cannot_be_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    with pytest.raises(RecipeError, match="a list cannot be run"):
        run_side([1], X)
    with pytest.raises(BundleError, match="onnxruntime refuses the model given as bytes"):
        run_side(b"no model", X)
    with pytest.raises(RecipeError, match=r"the session takes images, and 2 inputs were given"):
        run_side(model, (X, X))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"onnxruntime is not installed: pip install"):
        run_side(model, X)
