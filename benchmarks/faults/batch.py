"""Faults that show in some batches only: by their size, by who else is in them, or by what was computed before."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.faults.around import Outputs, call_fault, image_fault, output_fault
from benchmarks.faults.fault import network_fault
from benchmarks.faults.surgery import Wrapper
from toolkit.backbones.deployable import Deployable


@network_fault(fixed_batch=1, unmeasured="fixed batch")
def batch_of_one(network: Deployable) -> nn.Module:
    """Exported for a batch of 1."""
    return network


@network_fault(fixed_batch=32, unmeasured="fixed batch")
def batch_of_32(network: Deployable) -> nn.Module:
    """Exported for a batch of 32."""
    return network


@output_fault
def right_only_alone(logits: torch.Tensor, probabilities: torch.Tensor) -> Outputs:
    """Images of a batch leak into each other by one percent."""
    del probabilities
    mixed = 0.99 * logits + 0.01 * logits.mean(dim=0, keepdim=True)
    return mixed, mixed.softmax(dim=1)


@image_fault
def brightness_of_the_batch(images: torch.Tensor) -> torch.Tensor:
    """Each image is made as bright as the batch is on average: right alone."""
    pixels = images.float()
    own = pixels.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    return (pixels * (pixels.mean() / own)).clamp(0, 255).round().to(torch.uint8)


class Counting(Wrapper):
    """Returns something else on every second call."""

    calls: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return logits and probabilities."""
        self.calls.add_(1)
        logits = self.wrapped(images)[0] * (1 + 0.01 * (self.calls % 2))
        return logits, logits.softmax(dim=1)


@network_fault(format="torchscript")
def state_between_calls(network: Deployable) -> nn.Module:
    """A counter is kept between calls and changes every second one."""
    return Counting(network)


@call_fault(format="torchscript")
def dropout_left_on(network: nn.Module, images: torch.Tensor) -> Outputs:
    """Dropout in training mode."""
    logits = nn.functional.dropout(network(images)[0], 0.1, training=True)
    return logits, logits.softmax(dim=1)


@call_fault()
def not_a_number_on_black(network: nn.Module, images: torch.Tensor) -> Outputs:
    """Divided by the largest pixel, which is 0 in a black image."""
    largest = images.float().amax(dim=(1, 2, 3)).unsqueeze(1)
    logits = network(images)[0] * (largest / largest)
    return logits, logits.softmax(dim=1)
