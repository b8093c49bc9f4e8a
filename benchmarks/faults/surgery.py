"""Finding a place in a network, and putting something else there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from benchmarks.faults.fault import NotApplicableError

T = TypeVar("T")
Layer = TypeVar("Layer", bound=nn.Module)


class Wrapper(nn.Module):
    """Stands in the place of a module, which it holds."""

    wrapped: nn.Module

    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped


def layers(network: nn.Module, *kinds: type[Layer]) -> list[tuple[str, Layer]]:
    """Return the layers of some kinds by name, in the order in which they were made.

    Raises:
        NotApplicableError: there is none.
    """
    present = [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    if not present:
        raise NotApplicableError(f"it has no {' or '.join(kind.__name__ for kind in kinds)}")
    return present


def convolutions(
    network: nn.Module, condition: Callable[[nn.Conv2d], bool], description: str
) -> list[tuple[str, nn.Conv2d]]:
    """Return the convolutions that meet a condition.

    Raises:
        NotApplicableError: none does.
    """
    matching = [(name, layer) for name, layer in layers(network, nn.Conv2d) if condition(layer)]
    if not matching:
        raise NotApplicableError(f"it has no {description}")
    return matching


def middle(items: Sequence[T]) -> T:
    """Return what is in the middle; of an even number, the later of two."""
    return items[len(items) // 2]


def middle_weight(network: nn.Module) -> torch.Tensor:
    """Return the weight ``[out, in, height, width]`` of the convolution in the middle, for changing in place."""
    _, layer = middle(layers(network, nn.Conv2d))
    return layer.weight.detach()


def head(network: nn.Module) -> tuple[str, nn.Linear]:
    """Return the last linear layer with its name."""
    return layers(network, nn.Linear)[-1]


def replace(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module in the place of one."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
