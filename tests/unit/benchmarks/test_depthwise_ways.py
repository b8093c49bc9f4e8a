from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from benchmarks import depthwise_ways
from benchmarks.depthwise_ways import WAYS, Measured, claims, measured, shapes_of, table
from toolkit.run_folder import DepthwiseShape

SMALL: dict[str, Any] = {
    "channels": 8,
    "size": (5, 4),
    "kernel": (3, 3),
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
}
SHAPES = {
    "plain": {},
    "stride": {"stride": (2, 2)},
    "dilated": {"size": (7, 6), "dilation": (2, 1), "padding": (2, 1)},
    "one pixel": {"size": (1, 1), "kernel": (5, 5), "padding": (2, 2)},
    "unequal kernel": {"kernel": (2, 5), "padding": (0, 2)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("batch", [1, 7])
def test_every_way_is_the_gradient_of_pytorch(way: str, name: str, batch: int) -> None:
    shape = DepthwiseShape.model_validate({**SMALL, **SHAPES[name]})
    if way == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    if way == "rows" and shape.stride != (1, 1):
        pytest.skip("a way for strides of one")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, shape.channels, *shape.size, generator=generator)
    gradient = torch.randn(batch, shape.channels, *depthwise_ways.output_size(shape), generator=generator)
    weight = torch.zeros(shape.channels, 1, *shape.kernel, requires_grad=True)
    output = torch.conv2d(images, weight, None, shape.stride, shape.padding, shape.dilation, shape.channels)
    output.backward(gradient)
    assert weight.grad is not None
    found = WAYS[way](images, gradient, shape)
    assert found.shape == weight.grad.shape
    assert (found - weight.grad).abs().max() <= 1e-5 * weight.grad.abs().max()


def test_the_shapes_are_those_of_the_network() -> None:
    shapes = shapes_of("timm:test_efficientnet", 64)
    assert shapes
    assert all(shape.kernel == (3, 3) for shape in shapes)


def test_every_way_has_a_turn_in_each_round() -> None:
    found = measured(DepthwiseShape.model_validate(SMALL), "float32", batch=2, rounds=2)
    assert {"pytorch", "products", "rows", "columns", "offsets", "tiles"} <= set(found.seconds)
    assert {len(seconds) for seconds in found.seconds.values()} == {2}
    assert max(found.errors.values()) < 1e-5


def made(products: float, error: float = 0.0, kind: str = "float32") -> Measured:
    """Return a small shape on which PyTorch takes 10 ms."""
    seconds = {"pytorch": [0.01], "products": [products]}
    shape = DepthwiseShape.model_validate({**SMALL, "kernel": (5, 5), "padding": (2, 2)})
    return Measured(shape, kind, {"pytorch": error, "products": 0.0}, seconds)


@pytest.mark.parametrize(
    ("found", "met"),
    [
        ([made(0.002)], [True, True, True]),
        ([made(0.002), made(0.02)], [True, True, False]),
        ([made(0.002, error=1e-4)], [False, True, True]),
        ([made(0.002, error=0.1, kind="bfloat16")], [True, False, True]),
    ],
)
def test_each_claim_can_be_missed(found: list[Measured], met: list[bool]) -> None:
    assert [claim.met for claim in claims(found, "AVX2")] == met


def test_the_table_names_the_fastest_and_what_is_taken() -> None:
    ((*_, fastest, taken),) = table([made(0.002)], "AVX2").rows
    assert (fastest, taken) == ("products", "products")
    ((*_, fastest, taken),) = table([made(0.02)], "DEFAULT").rows
    assert (fastest, taken) == ("pytorch", "pytorch")
