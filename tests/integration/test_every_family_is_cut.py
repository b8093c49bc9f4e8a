"""One model of each family is cut at the frontier of both stages, and the parts compute what the whole computes."""

from __future__ import annotations

import pytest
import torch
from daily import daily
from families import FAMILIES, create_with_statistics

from toolkit.backbones import apply_modes, set_trainable
from toolkit.backbones.frontier import divide_at_frontier, independent_stages
from toolkit.backbones.surgery import seeded

pytestmark = pytest.mark.slow

LARGEST = 64 * 2**20
"""Bytes of one image's tensor in float32."""


@pytest.mark.parametrize("name", daily(FAMILIES, "resnet18"))
def test_it_is_cut_and_the_parts_compute_what_the_whole_computes(name: str) -> None:
    backbone = create_with_statistics(name)
    stages = [set_trainable(backbone, 0), set_trainable(backbone, 1)]
    assert independent_stages(stages)
    division = divide_at_frontier(backbone, stages)
    images = torch.randn(5, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        backbone.model.eval()
        outputs = dict(zip((tensor.name for tensor in division.tensors), division.prefix(images), strict=True))
        assert {key: tuple(output.shape) for key, output in outputs.items()} == {
            tensor.name: (5, *tensor.shape) for tensor in division.tensors
        }
        for parts, cut in zip(stages, division.cuts, strict=True):
            assert cut.tensors
            assert all(4 * tensor.elements < LARGEST for tensor in cut.tensors)
            backbone.model.eval()
            torch.testing.assert_close(
                cut.infer(*(outputs[tensor.name].clone() for tensor in cut.tensors)), backbone.model(images)
            )
            apply_modes(backbone, parts)
            with seeded(3):
                whole = backbone.model(images)
            with seeded(3):
                split = cut.train(*(outputs[tensor.name].clone() for tensor in cut.tensors))
            torch.testing.assert_close(split, whole)
