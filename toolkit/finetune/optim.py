"""The loss, the optimiser and the learning-rate schedule of a recipe, built from ``toolkit.training_choices``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from toolkit.recipe import StageRecipe, TrainRecipe
from toolkit.training_choices import LOSSES, OPTIMIZERS, SCHEDULES

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class OneHotSquaredError(nn.Module):
    """The mean squared difference between the logits themselves and the one-hot targets."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits ``[N, C]`` and class indices ``[N]``."""
        return functional.mse_loss(logits, functional.one_hot(targets, logits.shape[1]).to(logits.dtype))


def make_loss(recipe: TrainRecipe) -> Loss:
    """Return the loss as a function of logits ``[N, C]`` and class indices ``[N]``; a mean over the batch."""
    loss: Loss = LOSSES[recipe.loss].build(recipe)
    return loss


def make_optimizer(stage: StageRecipe, head: list[nn.Parameter], backbone: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser: a group for the head and, if blocks are unfrozen, one for them, each at its own rate."""
    groups: list[dict[str, object]] = [{"params": head, "lr": stage.head_lr}]
    if backbone:
        groups.append({"params": backbone, "lr": stage.backbone_lr})
    optimizer: torch.optim.Optimizer = OPTIMIZERS[stage.optimizer].build(stage, groups)
    return optimizer


def make_scheduler(optimizer: torch.optim.Optimizer, schedule: str, steps: int) -> LambdaLR:
    """Return the schedule; call ``step`` after every optimiser step.

    Args:
        optimizer: its groups' rates are multiplied by the schedule.
        schedule: a name in ``SCHEDULES``.
        steps: number of steps in the stage.
    """
    factor = SCHEDULES[schedule]
    return LambdaLR(optimizer, lambda step: factor(step, steps))
