"""Bisection names a fault that was planted in a real export, and the PyTorch module it sits in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from daily import daily

pytestmark = pytest.mark.slow


def convolutions(path: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]


def flip_a_sign(values: np.ndarray) -> None:
    """Turn the sign of the largest weight in the middle of its kernel.

    At the edge of a small map the others meet nothing but padding.
    """
    middle = values[:, :, values.shape[2] // 2, values.shape[3] // 2]
    middle[np.unravel_index(int(np.abs(middle).argmax()), middle.shape)] *= -1


@pytest.mark.parametrize("share", daily([0.0, 0.4, 0.9], 0.4))
def test_one_weight_with_the_wrong_sign(exported: Any, change_weights: Any, tmp_path: Path, share: float) -> None:
    planted = convolutions(exported.path)
    node = planted[int(share * (len(planted) - 1))]
    found = exported.bisected(lambda model: change_weights(model, node.input[1], flip_a_sign), tmp_path / "bad.onnx")
    assert found.first is not None
    assert found.first.node == node.name
    assert found.first.module.startswith(node.input[1].removesuffix(".weight"))
    assert all(before.error <= found.allowed for before in found.path[: found.path.index(found.first)])
    assert found.lacking == ()
    assert found.samples == 6


def test_one_bias_that_a_batch_norm_was_folded_into(exported: Any, change_weights: Any, tmp_path: Path) -> None:
    node = convolutions(exported.path)[3]

    def shift(values: np.ndarray) -> None:
        values[0] += np.float32(0.01)

    found = exported.bisected(lambda model: change_weights(model, node.input[2], shift), tmp_path / "bad.onnx")
    assert found.first is not None
    assert found.first.node == node.name
    assert "BatchNorm" in found.first.module


def test_a_good_export_has_no_first_node(exported: Any, tmp_path: Path) -> None:
    found = exported.bisected(lambda model: None, tmp_path / "good.onnx")
    assert found.first is None
    assert found.compared > 30
