"""One step of training: forward, backward, optimiser. Training makes it, and so does the measurement of a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from toolkit.backbones import TrainableParts
from toolkit.recipe import StageRecipe
from toolkit.training.batch_sources import Tensors
from toolkit.training.depthwise import DepthwiseGradients
from toolkit.training.optim import Loss, make_loss, make_optimizer
from toolkit.training.precision import Precision
from toolkit.training.setting import Setting


@dataclass(frozen=True)
class Learner:
    """What one stage trains, and by what.

    Attributes:
        module: takes the tensors of a batch, returns logits ``[b, C]``.
        loss: of logits and targets.
        optimizer: of the parameters that are trained.
        precision: arithmetic of the passes.
        mixup: alpha of the Beta distribution of mixup's shares; 0 leaves it out.
        depthwise: how depthwise convolutions are differentiated.
    """

    module: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    precision: Precision
    mixup: float
    depthwise: DepthwiseGradients


@dataclass(frozen=True)
class StepResult:
    """What a step found out, still on the device.

    Attributes:
        loss: of the batch before the step, a scalar.
        right: how many images were classified right, a scalar.
    """

    loss: torch.Tensor
    right: torch.Tensor


def make_learner(setting: Setting, stage: StageRecipe, parts: TrainableParts, module: nn.Module) -> Learner:
    """Return what a stage trains, as the recipe says."""
    recipe = setting.recipe
    return Learner(
        module=module,
        loss=make_loss(recipe.train, setting.class_weights, setting.device),
        optimizer=make_optimizer(stage, parts.head, parts.backbone),
        precision=setting.precision,
        mixup=recipe.augment.mixup,
        depthwise=setting.depthwise,
    )


def training_step(
    learner: Learner, tensors: Tensors, targets: torch.Tensor, seed: np.random.SeedSequence
) -> StepResult:
    """Make one step; never waits for the device.

    Args:
        learner: changed in place.
        tensors: of the batch, on the device.
        targets: int64 ``[b]``, on the device.
        seed: of dropout and mixup in this step. Seeded anew at every step they need no history: a run that goes on from
            a checkpoint draws what it would have drawn.
    """
    _reseed(int(seed.generate_state(1)[0]), learner.precision.device)
    tensors, loss_of = mixup(tensors, targets, learner.mixup, seed, learner.loss)
    learner.optimizer.zero_grad(set_to_none=True)
    with learner.precision.autocast(), learner.depthwise:
        logits = learner.module(*tensors)
    loss = loss_of(logits.float())
    learner.precision.backward_and_step(loss, learner.optimizer)
    return StepResult(loss.detach(), (logits.detach().argmax(dim=1) == targets).sum())


def mixup(
    tensors: Tensors, targets: torch.Tensor, alpha: float, seed: np.random.SeedSequence, loss: Loss
) -> tuple[Tensors, Callable[[torch.Tensor], torch.Tensor]]:
    """Blend each input with another of its batch (Zhang et al. 2018), on images or on activations.

    Args:
        tensors: of the batch.
        targets: int64 ``[b]``.
        alpha: of the Beta distribution that the share is drawn from, one share per batch; 0 changes nothing.
        seed: of the draw.
        loss: of logits and targets.

    Returns:
        The blended tensors, and the loss as a function of logits: the same blend of the losses to both targets.
    """
    if alpha == 0:
        return tensors, lambda logits: loss(logits, targets)
    draw = np.random.default_rng(seed)
    share = float(draw.beta(alpha, alpha))
    other = torch.from_numpy(draw.permutation(len(targets))).to(targets.device)
    blended = [tensor.float() * share + tensor[other].float() * (1 - share) for tensor in tensors]
    return blended, lambda logits: share * loss(logits, targets) + (1 - share) * loss(logits, targets[other])


def _reseed(seed: int, device: str) -> None:
    # torch.manual_seed would also note the call, with its stack, for every kind of device that is not in use.
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)
