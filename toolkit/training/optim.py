"""The loss, the optimiser and the learning-rate schedule of a recipe, built from ``toolkit.training_choices``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from toolkit.recipe import StageRecipe, TrainRecipe
from toolkit.training_choices import LOSSES, OPTIMIZERS, SCHEDULES

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class OneHotSquaredError(nn.Module):
    """The mean squared difference between the logits themselves and the one-hot targets.

    Args:
        reduction: ``mean`` over the batch, or ``none``.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits ``[N, C]`` and class indices ``[N]``."""
        wanted = functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        if self.reduction == "none":
            return functional.mse_loss(logits, wanted, reduction="none").mean(dim=1)
        return functional.mse_loss(logits, wanted)


class ClassWeighted(nn.Module):
    """The mean over the batch of each image's loss, times the weight of its class.

    The mean is over images, not over weights: with several processes the mean of their means is that of the batch.

    Args:
        loss: returns the loss of each image.
        weights: of the classes, float32 ``[C]``.
    """

    def __init__(self, loss: Loss, weights: torch.Tensor) -> None:
        super().__init__()
        self._loss = loss
        self._weights = weights

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits ``[N, C]`` and class indices ``[N]``."""
        return (self._loss(logits, targets) * self._weights[targets]).mean()


def class_weights(recipe: TrainRecipe, targets: npt.NDArray[np.int64], classes: int) -> tuple[float, ...] | None:
    """Return what the loss of each class is multiplied by; None where the recipe lets all images count alike.

    Balanced weights are n / (C n_c), those of scikit-learn: all classes together weigh alike, and the mean over the
    training images is 1.

    Args:
        recipe: says whether.
        targets: of all training images, int64 ``[n]``.
        classes: C.
    """
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(targets, minlength=classes)
    return tuple(float(weight) for weight in len(targets) / (classes * np.maximum(counts, 1)))


def make_loss(recipe: TrainRecipe, weights: Sequence[float] | None = None, device: torch.device | str = "cpu") -> Loss:
    """Return the loss as a function of logits ``[N, C]`` and class indices ``[N]``; a mean over the batch.

    Args:
        recipe: which loss.
        weights: of the classes; None for none.
        device: where the logits are.
    """
    choice = LOSSES[recipe.loss]
    if weights is None:
        loss: Loss = choice.build(recipe)
        return loss
    return ClassWeighted(
        choice.build(recipe, reduction="none"), torch.tensor(weights, dtype=torch.float32, device=device)
    )


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
