from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable, TorchSession
from toolkit.backbones.exact import BATCH, measure_rounding, outputs_in
from toolkit.bundle.manifest import Normalization

NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH + 3, 8, 8, 3), dtype=np.uint8)


def network(*layers: nn.Module) -> Deployable:
    torch.manual_seed(0)
    return Deployable(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 8 * 3, 4)), NORMALIZATION)


def test_float64_is_what_the_same_network_says_rounded_once() -> None:
    deployable = network()
    outputs = outputs_in("float64", deployable, IMAGES, 1)
    assert outputs is not None
    linear = deployable.classifier[-1]
    pixels = ((IMAGES.transpose(0, 3, 1, 2).astype(np.float64) / 255 - 0.5) / 0.25).reshape(len(IMAGES), -1)
    weight, bias = (values.detach().double().numpy() for values in (linear.weight, linear.bias))
    np.testing.assert_allclose(outputs["logits"], pixels @ weight.T + bias, rtol=3e-7, atol=1e-7)
    assert outputs["logits"].dtype == outputs["probabilities"].dtype == np.float32
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-6)
    assert deployable.offset.dtype == torch.float32


def test_a_network_that_cannot_be_computed_so_is_none() -> None:
    class InsistsOnFloat32(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values.float() @ torch.eye(8, dtype=torch.float32)

    assert outputs_in("float64", network(InsistsOnFloat32()), IMAGES, 1) is None
    deployable = network()
    deployable.scale.fill_(float("inf"))
    assert outputs_in("float64", deployable, IMAGES, 1) is None


def test_lower_precisions_lose_more_and_what_is_no_floating_point_is_left_out() -> None:
    deployable = network()
    exact = outputs_in("float64", deployable, IMAGES, 1)
    assert exact is not None
    found = measure_rounding(deployable, IMAGES, exact["logits"], ("int8", "bfloat16", "float32"), 1)
    assert set(found) == {"float32", "bfloat16"}
    assert found["float32"] < 1e-6 < found["bfloat16"] < 0.1
    own = TorchSession(deployable).run(IMAGES)["logits"]
    assert found["float32"] == pytest.approx(
        measure_rounding(deployable, IMAGES, exact["logits"], ("float32",), 1)["float32"]
    )
    np.testing.assert_allclose(own, exact["logits"], rtol=1e-4, atol=1e-5)


def test_logits_that_are_all_zero_measure_nothing() -> None:
    found = measure_rounding(network(), IMAGES, np.zeros((len(IMAGES), 4)), ("float32",), 1)
    assert found == {}
