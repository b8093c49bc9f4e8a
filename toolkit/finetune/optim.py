"""Losses, optimisers and learning-rate schedules, by the names that recipes use."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from toolkit.recipe import StageRecipe, TrainRecipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

WARM_UP_SHARE = 0.3
WARM_UP_START = 1 / 25
FINAL = 1e-4
"""One-cycle: from 1/25 of the rate up over 30% of the steps, then down to 1e-4 of it; the shape of Smith and Topin
2018."""


def make_loss(recipe: TrainRecipe) -> Loss:
    """Return the loss as a function of logits ``[N, C]`` and class indices ``[N]``; a mean over the batch.

    ``mse`` is the mean squared difference between the logits themselves and the one-hot targets.
    """
    if recipe.loss == "mse":
        return _squared_error
    return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)


def _squared_error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(logits, functional.one_hot(targets, logits.shape[1]).to(logits.dtype))


def make_optimizer(stage: StageRecipe, head: list[nn.Parameter], backbone: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser with one group for the head and, if blocks are unfrozen, one for them, each at its own rate.

    Fused: one pass over the weights instead of one per arithmetic operation, on the CPU and on CUDA.
    """
    groups: list[dict[str, object]] = [{"params": head, "lr": stage.head_lr}]
    if backbone:
        groups.append({"params": backbone, "lr": stage.backbone_lr})
    match stage.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, momentum=stage.momentum, weight_decay=stage.weight_decay, fused=True)
        case "adam":
            return torch.optim.Adam(groups, weight_decay=stage.weight_decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=stage.weight_decay, fused=True)


def schedule_factor(schedule: str, step: int, steps: int) -> float:
    """Return what the rates are multiplied by at a step.

    Args:
        schedule: ``constant``, ``cosine`` or ``one_cycle``.
        step: 0 for the first step of the stage.
        steps: number of steps in the stage.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _cosine(1.0, 0.0, step / steps)
    peak = max(1, round(WARM_UP_SHARE * steps))
    if step < peak:
        return _cosine(WARM_UP_START, 1.0, step / peak)
    return _cosine(1.0, FINAL, (step - peak) / max(1, steps - peak))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def make_scheduler(optimizer: torch.optim.Optimizer, schedule: str, steps: int) -> LambdaLR:
    """Return the schedule; call ``step`` after every optimiser step."""
    return LambdaLR(optimizer, lambda step: schedule_factor(schedule, step, steps))
