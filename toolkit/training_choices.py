"""Losses, optimisers and learning-rate schedules by the names that recipes use: one table each, a line for each choice.

A recipe accepts the names that stand here and ``toolkit.training.optim`` builds what they name. What needs PyTorch is
named by its module and imported when it is built: recipes are read, and flags are listed, without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

Schedule = Callable[[int, int], float]
"""Returns what the learning rates are multiplied by, given the step (0 is the first) and the number of steps of the
stage."""

WARM_UP_SHARE = 0.3
WARM_UP_START = 1 / 25
FINAL = 1e-4
"""One-cycle: from 1/25 of the rate up over 30% of the steps, then down to 1e-4 of it; the shape of Smith and Topin
2018."""


@dataclass(frozen=True)
class Choice:
    """A class or a function that is called to build a loss or an optimiser."""

    target: str
    """``module:name``, as in an entry point."""
    fields: tuple[str, ...] = ()
    """Fields of the recipe's section that it takes, as keyword arguments of the same names."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that are the same for every recipe."""

    def build(self, section: object, *arguments: object, **further: object) -> Any:
        """Import and call it.

        Args:
            section: the part of the recipe that has the fields.
            arguments: positional arguments.
            further: keyword arguments beside those of the recipe.
        """
        module, _, name = self.target.partition(":")
        options = {field_name: getattr(section, field_name) for field_name in self.fields}
        return getattr(import_module(module), name)(*arguments, **options, **self.constants, **further)


def constant(step: int, steps: int) -> float:
    """Keep the rates."""
    del step, steps
    return 1.0


def cosine(step: int, steps: int) -> float:
    """Lower the rates along half a cosine, to 0 after the last step."""
    return _half_cosine(1.0, 0.0, step / steps)


def one_cycle(step: int, steps: int) -> float:
    """Raise the rates along half a cosine, then lower them to almost nothing."""
    peak = max(1, round(WARM_UP_SHARE * steps))
    if step < peak:
        return _half_cosine(WARM_UP_START, 1.0, step / peak)
    return _half_cosine(1.0, FINAL, (step - peak) / max(1, steps - peak))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


LOSSES: dict[str, Choice] = {
    "cross_entropy": Choice("torch.nn:CrossEntropyLoss", ("label_smoothing",)),
    "mse": Choice("toolkit.training.optim:OneHotSquaredError"),
}
"""What is built is called with logits ``[N, C]`` and class indices ``[N]`` and returns a mean over the batch; built
with ``reduction="none"`` it returns the loss of each image."""

# Fused: one pass over the weights instead of one per arithmetic operation, on the CPU and on CUDA.
OPTIMIZERS: dict[str, Choice] = {
    "sgd": Choice("torch.optim:SGD", ("momentum", "weight_decay"), {"fused": True}),
    "adam": Choice("torch.optim:Adam", ("weight_decay",), {"fused": True}),
    "adamw": Choice("torch.optim:AdamW", ("weight_decay",), {"fused": True}),
}
"""Called with the parameter groups, each at its own rate."""

SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "one_cycle": one_cycle}
