"""The steps of an epoch as figures: losses and hits are kept on the device until they are looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from toolkit.training.step import StepResult

CUDA_STEPS = 50
"""How many steps CUDA may run ahead before their losses are looked at: each look waits for the device."""


@dataclass(frozen=True)
class Step:
    """A step of training that has been made."""

    stage: int
    epoch: int
    """1 for the first epoch of its stage."""
    number: int
    """1 for the first step of its epoch."""
    images: int
    rates: tuple[float, ...]
    """Learning rates of the head and, where blocks are unfrozen, of these."""
    loss: float = 0.0
    """Mean over the batch before the step."""
    right: int = 0
    """Images classified right before the step."""


StepObserver = Callable[[Step], None]
"""Told of every step, in order; on CUDA some steps late."""


class Meter:
    """Steps whose figures are still on the device.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self._most = CUDA_STEPS if device == "cuda" else 1
        self._steps: list[Step] = []
        self._results: list[StepResult] = []

    def add(self, step: Step, result: StepResult) -> None:
        """Keep a step; its loss and hits are those of the result."""
        self._steps.append(step)
        self._results.append(result)

    @property
    def full(self) -> bool:
        """True when it is time to look."""
        return len(self._steps) >= self._most

    def take(self) -> list[Step]:
        """Wait for the device and return the steps that were added since the last time."""
        if not self._steps:
            return []
        losses = torch.stack([result.loss for result in self._results]).tolist()
        hits = torch.stack([result.right for result in self._results]).tolist()
        steps = [
            replace(step, loss=loss, right=right) for step, loss, right in zip(self._steps, losses, hits, strict=True)
        ]
        self._steps.clear()
        self._results.clear()
        return steps
