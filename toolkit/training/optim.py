"""The loss, the optimiser and the learning-rate schedule of a recipe, built from ``toolkit.training_choices``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from toolkit.recipe import DistillRecipe, StageRecipe, TrainRecipe
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


class TaughtLoss:
    """The loss to the labels and, where there is a teacher, to its answers (Hinton et al. 2015).

    (1 - a) times the loss to the labels, plus a T^2 times the Kullback-Leibler divergence of the softmax at temperature
    T from the teacher's, a mean over the batch. T^2 keeps the size of its gradients the same whatever T is. Weights of
    classes and label smoothing are those of the labels alone.
    """

    def __init__(self, loss: Loss, recipe: DistillRecipe) -> None:
        """Join both.

        Args:
            loss: to the labels.
            recipe: a and T.
        """
        self._loss = loss
        self._weight = recipe.weight
        self._temperature = recipe.temperature

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, taught: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss.

        Args:
            logits: float32 ``[b, C]``.
            targets: int64 ``[b]``.
            taught: the teacher's logits, float32 ``[b, C]``; None leaves it out.
        """
        labelled = self._loss(logits, targets)
        if taught is None:
            return labelled
        own, wanted = (each.div(self._temperature).log_softmax(dim=1) for each in (logits, taught))
        divergence = functional.kl_div(own, wanted, reduction="batchmean", log_target=True)
        return (1 - self._weight) * labelled + self._weight * self._temperature**2 * divergence


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


def make_optimizer(
    stage: StageRecipe,
    head: list[nn.Parameter],
    backbone: list[nn.Parameter],
    blocks: Sequence[list[nn.Parameter]] = (),
) -> torch.optim.Optimizer:
    """Return the optimiser: a group for the head and, if blocks are unfrozen, one for them, each at its own rate.

    With a layer decay there is a group for each block, the last one first and at the rate of the backbone; each one
    before it has the rate of the one behind it times the decay (Howard and Ruder 2018, section 3.1).

    Args:
        stage: says which optimiser and which rates.
        head: parameters of the head.
        backbone: those of the unfrozen blocks.
        blocks: the same, block by block from input to output.
    """
    groups: list[dict[str, object]] = [{"params": head, "lr": stage.head_lr}]
    if backbone and stage.layer_decay < 1:
        trained = [block for block in reversed(blocks) if block]
        groups += [
            {"params": block, "lr": stage.backbone_lr * stage.layer_decay**depth} for depth, block in enumerate(trained)
        ]
    elif backbone:
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
