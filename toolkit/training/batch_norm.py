"""Statistics of BatchNorm layers, estimated anew with weights that no step moves any more (Izmailov et al. 2018)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolkit.training.group import Group


def trained_layers(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers that update running statistics in the modes that the network is in.

    InstanceNorm, which may have some too, knows no mean over all batches.
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.training and module.running_mean is not None
    ]


@contextlib.contextmanager
def estimating(layers: Sequence[_BatchNorm], group: Group) -> Iterator[None]:
    """Have layers take the mean of the statistics of all batches that pass through them in the block, from nothing.

    At its end it is the mean over all processes too, and the layers are in inference mode.

    Args:
        layers: all others of the network are best in inference mode.
        group: its processes have as many batches each.
    """
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch's word for the mean of all
    try:
        yield
        for layer in layers:
            _share(layer, group)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def _share(layer: _BatchNorm, group: Group) -> None:
    if group.world == 1:
        return
    for statistic in (layer.running_mean, layer.running_var):
        if statistic is not None:
            total = group.sum(statistic.tolist())
            statistic.copy_(torch.tensor(total, dtype=torch.float64) / group.world)
