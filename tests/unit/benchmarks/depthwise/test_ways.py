from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from benchmarks.depthwise.ways import WAYS
from toolkit.run_folder import DepthwiseShape
from toolkit.training.depthwise import output_size

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
    gradient = torch.randn(batch, shape.channels, *output_size(shape), generator=generator)
    weight = torch.zeros(shape.channels, 1, *shape.kernel, requires_grad=True)
    output = torch.conv2d(images, weight, None, shape.stride, shape.padding, shape.dilation, shape.channels)
    output.backward(gradient)
    assert weight.grad is not None
    found = WAYS[way](images, gradient, shape)
    assert found.shape == weight.grad.shape
    assert (found - weight.grad).abs().max() <= 1e-5 * weight.grad.abs().max()
