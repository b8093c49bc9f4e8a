"""Faults of weights: a sign, a channel, a few bits, or those of another layer."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.faults.fault import NotApplicableError, network_fault
from benchmarks.faults.surgery import convolutions, layers, middle, middle_weight
from toolkit.backbones.deployable import Deployable


@network_fault()
def one_sign_flipped(network: Deployable) -> nn.Module:
    """The largest weight of one convolution has the wrong sign."""
    weight = middle_weight(network).view(-1)
    weight[int(weight.abs().argmax())] *= -1
    return network


@network_fault()
def channel_zeroed(network: Deployable) -> nn.Module:
    """One output channel of one convolution is zero."""
    weight = middle_weight(network)
    weight[int(weight.flatten(1).norm(dim=1).argmax())] = 0
    return network


@network_fault()
def low_bits_truncated(network: Deployable) -> nn.Module:
    """The weights of one layer have lost 12 of their 24 bits."""
    weight = middle_weight(network)
    weight.copy_((weight.contiguous().view(torch.int32) & ~0xFFF).view(torch.float32))
    return network


@network_fault()
def one_layer_in_bfloat16(network: Deployable) -> nn.Module:
    """The weights of one layer were rounded to bfloat16."""
    weight = middle_weight(network)
    weight.copy_(weight.bfloat16().float())
    return network


@network_fault()
def every_weight_in_float16(network: Deployable) -> nn.Module:
    """All weights were rounded to float16, and the file says float32."""
    for parameter in network.parameters():
        parameter.detach().copy_(parameter.detach().half().float())
    return network


@network_fault()
def kernel_transposed(network: Deployable) -> nn.Module:
    """The kernels of one convolution are transposed."""

    def is_square(layer: nn.Conv2d) -> bool:
        return layer.kernel_size[0] == layer.kernel_size[1] > 1

    _, layer = middle(convolutions(network, is_square, "square kernel"))
    weight = layer.weight.detach()
    weight.copy_(weight.transpose(2, 3).clone())
    return network


@network_fault()
def weights_of_another_layer(network: Deployable) -> nn.Module:
    """Two layers of one shape have exchanged their weights."""
    by_shape: dict[torch.Size, torch.Tensor] = {}
    for _, layer in layers(network, nn.Conv2d):
        weight = layer.weight.detach()
        if weight.shape in by_shape:
            first = by_shape[weight.shape]
            kept = first.clone()
            first.copy_(weight)
            weight.copy_(kept)
            return network
        by_shape[weight.shape] = weight
    raise NotApplicableError("it has no two convolutions of one shape")
