"""One model of each family is cut at the frontier of both stages, and the parts compute what the whole computes."""

from __future__ import annotations

import pytest
import torch

from toolkit.backbones import Backbone, apply_modes, create_backbone, set_trainable
from toolkit.backbones.frontier import divide_at_frontier, independent_stages
from toolkit.backbones.surgery import seeded

pytestmark = pytest.mark.slow

FAMILIES = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "inception_v3": 80,
    "googlenet": 32,
    "densenet121": 32,
    "squeezenet1_1": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "shufflenet_v2_x0_5": 32,
    "mnasnet0_5": 32,
    "efficientnet_b0": 32,
    "regnet_y_400mf": 32,
    "convnext_tiny": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "vit_b_16": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "maxvit_t": 224,
    "timm:tf_efficientnet_lite0": 32,
    "timm:vit_tiny_patch16_224": 32,
}
"""A model of each family, and the smallest side in pixels that shows all of its graph."""
LARGEST = 64 * 2**20
"""Bytes of one image's tensor in float32."""


def with_random_statistics(name: str) -> Backbone:
    backbone = create_backbone(name, weights="none", classes=3, image_size=FAMILIES[name], seed=0)
    generator = torch.Generator().manual_seed(1)
    for key, buffer in backbone.model.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    return backbone


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_cut_and_the_parts_compute_what_the_whole_computes(name: str) -> None:
    backbone = with_random_statistics(name)
    stages = [set_trainable(backbone, 0), set_trainable(backbone, 1)]
    assert independent_stages(stages)
    division = divide_at_frontier(backbone, stages)
    images = torch.randn(5, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        backbone.model.eval()
        outputs = dict(zip((tensor.name for tensor in division.tensors), division.prefix(images), strict=True))
        assert {key: tuple(output.shape) for key, output in outputs.items()} == {tensor.name: (5, *tensor.shape) for tensor in division.tensors}
        for parts, cut in zip(stages, division.cuts, strict=True):
            assert cut.tensors
            assert all(4 * tensor.elements < LARGEST for tensor in cut.tensors)
            backbone.model.eval()
            torch.testing.assert_close(cut.infer(*(outputs[tensor.name].clone() for tensor in cut.tensors)), backbone.model(images))
            apply_modes(backbone, parts)
            with seeded(3):
                whole = backbone.model(images)
            with seeded(3):
                split = cut.train(*(outputs[tensor.name].clone() for tensor in cut.tensors))
            torch.testing.assert_close(split, whole)
