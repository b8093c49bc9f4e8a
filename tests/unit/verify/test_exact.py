from __future__ import annotations

import numpy as np
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.manifest import Normalization
from toolkit.verify.exact import IMAGES, measure_exact
from toolkit.verify.expected import Exact, run_reference
from toolkit.verify.inputs import make_inputs

SIZE = 8
NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CONTRACT = input_contract(NORMALIZATION, SIZE, SIZE)
COUNT = IMAGES + 4
INPUTS = make_inputs(
    tuple(map(str, range(COUNT))),
    np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8),
    seed=0,
)


def deployable(gain: float = 1.0) -> Deployable:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    with torch.no_grad():
        model[3].weight *= gain
    return Deployable(model, NORMALIZATION).eval()


def measured(network: Deployable, *precisions: str) -> Exact | None:
    reference = run_reference(TorchSession(network, "cpu", 1), INPUTS, CONTRACT)
    return measure_exact(network, INPUTS, reference, CONTRACT, precisions, 1)


def test_some_test_images_and_all_edge_inputs_are_computed_in_float64() -> None:
    exact = measured(deployable())
    assert exact is not None
    assert exact.rows == (*range(IMAGES), *range(COUNT, len(INPUTS.names)))
    assert (exact.logits.dtype, exact.logits.shape) == (np.float64, (len(exact.rows), 3))
    assert set(exact.rounding) == {"float32"}
    assert 0 < exact.rounding["float32"] < 1e-5


def test_rounding_grows_as_precision_falls_and_the_network_stays_as_it_was() -> None:
    network = deployable()
    exact = measured(network, "float32", "float16", "bfloat16", "int8")
    assert exact is not None
    assert list(exact.rounding) == ["float32", *(name for name in exact.rounding if name != "float32")]
    assert exact.rounding["float32"] < exact.rounding["float16"] < exact.rounding["bfloat16"] < 0.1
    assert "int8" not in exact.rounding
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_precision_in_which_values_overflow_is_absent() -> None:
    exact = measured(deployable(gain=1e6), "float16")
    assert exact is not None
    assert set(exact.rounding) == {"float32"}


def test_a_network_that_is_not_finite_has_no_exact_values() -> None:
    assert measured(deployable(gain=float("nan"))) is None
