"""Faults around a network that itself stays right: of the images it is given, and of what is made of its outputs.

Images are uint8 ``[N, H, W, 3]``, outputs are logits and probabilities, float32 ``[N, C]`` both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.faults.fault import NetworkFault, name_of, what_of
from benchmarks.faults.surgery import Wrapper
from toolkit.backbones.deployable import Deployable

Outputs = tuple[torch.Tensor, torch.Tensor]
ImageDamage = Callable[[torch.Tensor], torch.Tensor]
OutputDamage = Callable[[torch.Tensor, torch.Tensor], Outputs]
CallDamage = Callable[[nn.Module, torch.Tensor], Outputs]


class Around(Wrapper):
    """A network that is called in a wrong way."""

    def __init__(self, network: Deployable, call: CallDamage) -> None:
        super().__init__(network)
        self._call = call

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        return self._call(self.wrapped, images)


def image_fault(damage: ImageDamage) -> NetworkFault:
    """Make a fault of a function from images to images."""
    return _fault(damage, lambda network, images: network(damage(images)))


def output_fault(damage: OutputDamage) -> NetworkFault:
    """Make a fault of a function from logits and probabilities to both."""
    return _fault(damage, lambda network, images: damage(*network(images)))


def call_fault(*, format: str = "onnx") -> Callable[[CallDamage], NetworkFault]:
    """Make a fault of a function that calls a network on images and returns logits and probabilities."""
    return lambda damage: _fault(damage, damage, format)


def _fault(damage: Callable[..., object], call: CallDamage, format: str = "onnx") -> NetworkFault:
    return NetworkFault(
        name=name_of(damage), what=what_of(damage), format=format, apply=lambda network: Around(network, call)
    )
