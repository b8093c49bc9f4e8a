"""Faults that hide within a usual tolerance, planted in real exports.

Each must fail the gate, and the untouched file must pass.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from daily import daily

pytestmark = pytest.mark.slow


def truncate(bits: int) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[...] = (values.view(np.uint32) & np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)).view(np.float32)

    return change


def flip_a_sign(values: np.ndarray) -> None:
    """Turn the sign of the largest weight in the middle of its kernel.

    At the edge of a small map the others meet nothing but padding.
    """
    middle = values[:, :, values.shape[2] // 2, values.shape[3] // 2]
    middle[np.unravel_index(int(np.abs(middle).argmax()), middle.shape)] *= -1


def zero_a_channel(values: np.ndarray) -> None:
    values[1] = 0


def scale_a_little(values: np.ndarray) -> None:
    """What an epsilon of 1e-3 in place of 1e-5 does to a BatchNorm whose variance is about 1."""
    values *= np.float32(1 - 5e-4)


FAULTS = {
    "low bits": truncate(12),
    "half precision": truncate(13),
    "sign": flip_a_sign,
    "channel": zero_a_channel,
    "epsilon": scale_a_little,
}


def test_the_untouched_export_passes(exported: Any) -> None:
    found = exported.verified(exported.path)
    assert found.failures == ()
    assert found.rounding is not None
    assert found.rounding.ratio < 3


@pytest.mark.parametrize("share", daily([0.05, 0.5, 0.95], 0.5))
@pytest.mark.parametrize("fault", daily(FAULTS, "sign", "low bits"))
def test_a_small_fault_in_one_layer_fails(
    exported: Any, change_weights: Any, tmp_path: Path, fault: str, share: float
) -> None:
    layers = [node for node in onnx.load(exported.path).graph.node if node.op_type == "Conv"]
    name = layers[int(share * (len(layers) - 1))].input[1]
    path = exported.changed(lambda model: change_weights(model, name, FAULTS[fault]), tmp_path / "bad.onnx")
    found = exported.verified(path)
    assert not found.passed
    assert "rounding" in [check.name for check in found.checks if not check.passed]
