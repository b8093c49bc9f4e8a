"""Faults of BatchNorm layers."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.faults.fault import NotApplicableError, network_fault
from benchmarks.faults.surgery import Wrapper, layers, middle, replace
from toolkit.backbones.deployable import Deployable


class BatchStatistics(Wrapper):
    """A BatchNorm that was left in training mode: it normalises by what the batch at hand has."""

    wrapped: nn.BatchNorm2d

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the layer returns where its running statistics are those of the batch."""
        mean = features.mean(dim=(0, 2, 3), keepdim=True)
        variance = (features - mean).square().mean(dim=(0, 2, 3), keepdim=True)
        running_mean, running_variance = (
            values.view(1, -1, 1, 1)
            for values in (self.wrapped.running_mean, self.wrapped.running_var)
            if values is not None
        )
        normalised = (features - mean) / (variance + self.wrapped.eps).sqrt()
        outputs: torch.Tensor = self.wrapped(normalised * (running_variance + self.wrapped.eps).sqrt() + running_mean)
        return outputs


@network_fault()
def batchnorm_in_training_mode(network: Deployable) -> nn.Module:
    """One BatchNorm uses the statistics of the batch."""
    name, layer = middle(layers(network, nn.BatchNorm2d))
    if layer.running_mean is None or layer.running_var is None:
        raise NotApplicableError("its BatchNorm has no statistics")
    replace(network, name, BatchStatistics(layer))
    return network


@network_fault()
def batchnorm_epsilon(network: Deployable) -> nn.Module:
    """The epsilon of every BatchNorm is ten times as large."""
    for _, layer in layers(network, nn.BatchNorm2d):
        layer.eps *= 10
    return network


@network_fault()
def batchnorm_epsilon_of_one_layer(network: Deployable) -> nn.Module:
    """The epsilon of one BatchNorm is a hundred times as large."""
    _, layer = middle(layers(network, nn.BatchNorm2d))
    layer.eps *= 100
    return network


@network_fault()
def batchnorm_stale_statistics(network: Deployable) -> nn.Module:
    """One BatchNorm has lost its running mean."""
    _, layer = middle(layers(network, nn.BatchNorm2d))
    if layer.running_mean is None or not layer.running_mean.any():
        raise NotApplicableError("its BatchNorm has no running mean")
    layer.running_mean.zero_()
    return network


@network_fault()
def batchnorm_skipped(network: Deployable) -> nn.Module:
    """One BatchNorm is left out."""
    name, _ = middle(layers(network, nn.BatchNorm2d))
    replace(network, name, nn.Identity())
    return network
