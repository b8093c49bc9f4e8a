"""Sharpness-aware steps (Foret et al. 2021): the gradient is taken where the loss is highest nearby."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch.nn.utils import get_total_norm

_NEXT_TO_NOTHING = 1e-12
"""Added to the norm of the gradients, which may be 0."""


@contextlib.contextmanager
def climbed(weights: Sequence[torch.Tensor], statistics: Sequence[torch.Tensor], rho: float) -> Iterator[None]:
    """Have the weights a step of length ``rho`` up their gradient in the block, and then where they were, bit for bit.

    The length is that of all weights together. A gradient that was multiplied by a scaler points the same way, so it
    need not be divided again; where it overflowed, so does what is computed in the block, and the scaler leaves the
    step out. With several processes gradients have been averaged, and all climb alike.

    Args:
        weights: with their gradients; those without one stay.
        statistics: of normalisation layers; what the block makes of them is forgotten.
        rho: how far.
    """
    moved = [weight for weight in weights if weight.grad is not None]
    gradients = [weight.grad for weight in moved if weight.grad is not None]
    with torch.no_grad():
        before = [(tensor, tensor.clone()) for tensor in (*moved, *statistics)]
        torch._foreach_add_(moved, torch._foreach_mul(gradients, rho / (get_total_norm(gradients) + _NEXT_TO_NOTHING)))
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
