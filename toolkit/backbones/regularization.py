"""Stochastic depth and dropout that a network brings, and dropout before its head.

Rates are no weights: nothing of this reaches a file of weights, nor what is exported, which is built anew from its
architecture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from toolkit.backbones.backbone import Backbone

_DEPTH = {"StochasticDepth": "p", "DropPath": "drop_prob"}
"""What layers of stochastic depth are called in torchvision and timm, and what they call their rate."""


def without_own_depth(model: nn.Module) -> None:
    """Set the rate of all layers of stochastic depth that a network brings to 0."""
    for module in model.modules():
        name = _DEPTH.get(type(module).__name__)
        if name is not None:
            setattr(module, name, 0.0)


def set_head_dropout(backbone: Backbone, rate: float) -> None:
    """Leave out a share of what each layer of the head takes, in training mode, in place of the network's own dropout.

    Its own is what has no layer with weights between it and the head.

    Args:
        backbone: changed in place.
        rate: 0 to 1, without 1.
    """
    for module in _dropout_before(backbone.model, backbone.head[0]):
        module.p = 0.0
    if rate > 0:
        for name in backbone.head:
            backbone.model.get_submodule(name).register_forward_pre_hook(_Dropout(rate))


class _Dropout:
    """A hook before a layer."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        first, *rest = inputs
        dropped: torch.Tensor = functional.dropout(first, self._rate, module.training)
        return (dropped, *rest)


def _dropout_before(model: nn.Module, head: str) -> list[_DropoutNd]:
    found: list[_DropoutNd] = []
    for name, module in model.named_modules():
        if name == head:
            break
        if isinstance(module, _DropoutNd):
            found.append(module)
        elif next(module.parameters(recurse=False), None) is not None:
            found.clear()
    return found
