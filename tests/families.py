"""One network of each family that torchvision and timm offer, for the tests that go through all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torchvision.models import maxvit

from toolkit.backbones import Backbone, create_backbone

FAMILIES = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "inception_v3": 75,
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


def create_with_statistics(name: str, classes: int = 3) -> Backbone:
    """Return a model of ``FAMILIES`` with random weights and random BatchNorm statistics.

    Statistics of 0 and 1 would hide a BatchNorm that was dropped or folded wrongly.
    """
    with narrow_maxvit():
        backbone = create_backbone(name, weights="none", classes=classes, image_size=FAMILIES[name], seed=0)
    generator = torch.Generator().manual_seed(1)
    for key, buffer in backbone.model.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    return backbone


@contextmanager
def narrow_maxvit() -> Iterator[None]:
    """Give MaxViT a quarter of its channels and of the size of its heads: the same graph in a sixteenth of the time.

    It is the only family that cannot take smaller images than 224 x 224.
    """
    build = maxvit._maxvit

    def narrow(*, stem_channels: int, block_channels: list[int], head_dim: int, **options: Any) -> maxvit.MaxVit:
        channels = [width // 4 for width in block_channels]
        return build(stem_channels=stem_channels // 4, block_channels=channels, head_dim=head_dim // 4, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maxvit, "_maxvit", narrow)
        yield
