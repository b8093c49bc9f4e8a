from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import tiny_backbone
from torch import nn
from torchvision.ops import StochasticDepth

from toolkit.backbones import Backbone, create_backbone, set_trainable
from toolkit.backbones.regularization import set_head_dropout, without_own_depth


def taken_by_the_head(backbone: Backbone, images: torch.Tensor) -> list[torch.Tensor]:
    """Return what the head takes, before and after whatever stands in front of it."""
    seen: list[torch.Tensor] = []
    head = backbone.model.get_submodule(backbone.head[0])
    # A hook that was registered later is called later.
    first = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]), prepend=True)
    last = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone.model(images)
    first.remove()
    last.remove()
    return seen


def test_dropout_leaves_out_a_share_and_makes_up_for_it() -> None:
    backbone = tiny_backbone()
    set_head_dropout(backbone, 0.25)
    set_trainable(backbone, 1)
    before, after = taken_by_the_head(backbone, torch.rand(900, 3, 8, 8) + 0.5)
    dropped = after == 0
    torch.testing.assert_close(after[~dropped], before[~dropped] / 0.75)
    assert 0.22 < (dropped & (before > 0)).sum() / (before > 0).sum() < 0.28


def test_in_inference_mode_nothing_is_left_out() -> None:
    backbone, plain = tiny_backbone(), tiny_backbone()
    set_head_dropout(backbone, 0.9)
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(backbone.model(images), plain.model(images))
    assert backbone.model.state_dict().keys() == plain.model.state_dict().keys()


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1"])
def test_it_takes_the_place_of_the_networks_own(name: str) -> None:
    backbone = create_backbone(name, weights="none", classes=3, image_size=64, seed=0)
    own = [module for module in backbone.model.modules() if isinstance(module, nn.Dropout)]
    set_head_dropout(backbone, 0.0)
    assert [module.p for module in own] == [0.0]


def test_dropout_before_another_layer_is_left_alone() -> None:
    layers = [nn.Dropout(0.3), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.4), nn.Linear(4, 2), nn.Dropout(0.5)]
    model = nn.Sequential(*layers)
    set_head_dropout(replace(tiny_backbone(), model=model, head=("4",)), 0.1)
    assert [module.p for module in model if isinstance(module, nn.Dropout)] == [0.3, 0.0, 0.5]


@pytest.mark.parametrize(("name", "options"), [("efficientnet_b0", {}), ("timm:test_efficientnet", {"rate": 0.1})])
def test_layers_of_stochastic_depth_are_silenced(name: str, options: dict[str, Any]) -> None:
    backbone = create_backbone(name, weights="none", classes=3, image_size=32, seed=0)
    if options:
        from timm.layers import DropPath

        backbone.model.append_depth = DropPath(options["rate"])
    without_own_depth(backbone.model)
    rates = [
        module.p if isinstance(module, StochasticDepth) else module.drop_prob
        for module in backbone.model.modules()
        if type(module).__name__ in ("StochasticDepth", "DropPath")
    ]
    assert rates
    assert set(rates) == {0.0}
