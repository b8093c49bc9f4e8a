"""Faults around a network that itself stays right: of the images it is given, and of what is made of its outputs.

Images are uint8 ``[N, H, W, 3]``, outputs are logits and probabilities, float32 ``[N, C]`` both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.faults.fault import NetworkFault, name_of, what_of
from benchmarks.faults.surgery import Wrapper
from toolkit.backbones.deployable import Deployable

Outputs = tuple[torch.Tensor, torch.Tensor]
ImageDamage = Callable[[torch.Tensor], torch.Tensor]
OutputDamage = Callable[[torch.Tensor, torch.Tensor], Outputs]


class DamagedImages(Wrapper):
    """A network that is given something else than the images."""

    def __init__(self, network: Deployable, damage: ImageDamage) -> None:
        super().__init__(network)
        self._damage = damage

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        outputs: Outputs = self.wrapped(self._damage(images))
        return outputs


class DamagedOutputs(Wrapper):
    """A network whose outputs are made into something else."""

    def __init__(self, network: Deployable, damage: OutputDamage) -> None:
        super().__init__(network)
        self._damage = damage

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        return self._damage(*self.wrapped(images))


def image_fault(damage: ImageDamage) -> NetworkFault:
    """Make a fault of a function from images to images."""
    return NetworkFault(
        name=name_of(damage), what=what_of(damage), apply=lambda network: DamagedImages(network, damage)
    )


def output_fault(damage: OutputDamage) -> NetworkFault:
    """Make a fault of a function from logits and probabilities to both."""
    return NetworkFault(
        name=name_of(damage), what=what_of(damage), apply=lambda network: DamagedOutputs(network, damage)
    )
