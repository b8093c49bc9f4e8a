"""Faults of the head: its classes in another order, or without a part of what they learnt."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.faults.fault import NotApplicableError, network_fault
from benchmarks.faults.surgery import head
from toolkit.backbones.deployable import Deployable


@network_fault()
def labels_permuted(network: Deployable) -> nn.Module:
    """The rows of the head are in another order."""
    _, layer = head(network)
    _reorder(layer, torch.roll(torch.arange(layer.out_features), 1))
    return network


@network_fault()
def two_classes_swapped(network: Deployable) -> nn.Module:
    """The weights of two classes are exchanged."""
    _, layer = head(network)
    order = torch.arange(layer.out_features)
    order[:2] = torch.tensor([1, 0])
    _reorder(layer, order)
    return network


def _reorder(layer: nn.Linear, order: torch.Tensor) -> None:
    """Give a layer's outputs another order."""
    for parameter in layer.parameters():
        parameter.detach().copy_(parameter.detach()[order].clone())


@network_fault()
def head_bias_dropped(network: Deployable) -> nn.Module:
    """The head has lost its bias."""
    _, layer = head(network)
    if layer.bias is None or not layer.bias.detach().any():
        raise NotApplicableError("its head has no bias")
    layer.bias.detach().zero_()
    return network


@network_fault()
def one_class_dead(network: Deployable) -> nn.Module:
    """The weights of one class are zero."""
    _, layer = head(network)
    layer.weight.detach()[-1] = 0
    return network
