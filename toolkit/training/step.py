"""One step of training: forward, backward, optimiser. Training makes it, and so does the measurement of a plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from toolkit.backbones import TrainableParts
from toolkit.recipe import AugmentRecipe, StageRecipe
from toolkit.training.averaging import WeightAverage
from toolkit.training.batch_sources import Tensors
from toolkit.training.blending import blend
from toolkit.training.depthwise import DepthwiseGradients
from toolkit.training.optim import TaughtLoss, make_loss, make_optimizer
from toolkit.training.precision import Precision
from toolkit.training.setting import Setting
from toolkit.training.sharpness import climbed
from toolkit.training.variable import trained_tensors


@dataclass(frozen=True)
class Learner:
    """What one stage trains, and by what.

    Attributes:
        module: takes the tensors of a batch, returns logits ``[b, C]``.
        loss: of logits, targets and the logits of a teacher, if there is one.
        optimizer: of the parameters that are trained.
        precision: arithmetic of the passes.
        depthwise: how depthwise convolutions are differentiated.
        augment: how the inputs of a batch are blended with each other.
        average: of the weights that are trained; None where none is kept.
        ema: decay with which the average follows every step; 0 where it does not.
        sharpness: how far each step climbs before it takes its gradient, see ``climbed``; 0 where it does not.
        statistics: of normalisation layers, that a step updates.
    """

    module: nn.Module
    loss: TaughtLoss
    optimizer: torch.optim.Optimizer
    precision: Precision
    depthwise: DepthwiseGradients
    augment: AugmentRecipe
    average: WeightAverage | None = None
    ema: float = 0.0
    sharpness: float = 0.0
    statistics: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class StepResult:
    """What a step found out, still on the device.

    Attributes:
        loss: of the batch before the step, a scalar.
        right: how many inputs were classified right, a scalar; a blended one as that of which it has more.
    """

    loss: torch.Tensor
    right: torch.Tensor


def make_learner(setting: Setting, stage: StageRecipe, parts: TrainableParts, module: nn.Module) -> Learner:
    """Return what a stage trains, as the recipe says; the modes are to be those that ``parts`` were made with."""
    recipe, changing = setting.recipe, trained_tensors(setting.backbone, parts)
    averaged = recipe.train.ema > 0 or recipe.train.average_last > 1
    return Learner(
        module=module,
        loss=TaughtLoss(make_loss(recipe.train, setting.class_weights, setting.device), recipe.distill),
        optimizer=make_optimizer(stage, parts.head, parts.backbone, parts.blocks),
        precision=setting.precision,
        depthwise=setting.depthwise,
        augment=recipe.augment,
        average=WeightAverage(changing) if averaged else None,
        ema=recipe.train.ema,
        sharpness=recipe.train.sam_rho,
        statistics=tuple(tensor for tensor in changing.values() if not isinstance(tensor, nn.Parameter)),
    )


def training_step(
    learner: Learner,
    tensors: Tensors,
    targets: torch.Tensor,
    seed: np.random.SeedSequence,
    taught: torch.Tensor | None = None,
) -> StepResult:
    """Make one step; never waits for the device.

    Args:
        learner: changed in place.
        tensors: of the batch, on the device.
        targets: int64 ``[b]``, on the device.
        seed: of what is left out and of what is blended in this step. Seeded anew at every step they need no history: a
            run that goes on from a checkpoint draws what it would have drawn.
        taught: the teacher's logits, float32 ``[b, C]``, on the device; None without one.
    """
    blended = blend(tensors, len(targets), learner.augment, seed)
    number = int(seed.generate_state(1)[0])

    def gradients(inputs: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradients of the loss, the same being left out at random each time; returns loss and logits."""
        _reseed(number, learner.precision.device)
        learner.optimizer.zero_grad(set_to_none=True)
        with learner.depthwise, learner.precision.autocast():
            logits = learner.module(*inputs)
        loss = blended.loss(learner.loss, logits.float(), targets, taught)
        learner.precision.backward(loss)
        return loss, logits

    if learner.sharpness > 0:
        # A network may change in place what it is given.
        loss, logits = gradients([tensor.clone() for tensor in blended.tensors])
        weights = [weight for group in learner.optimizer.param_groups for weight in group["params"]]
        with climbed(weights, learner.statistics, learner.sharpness):
            gradients(blended.tensors)
    else:
        loss, logits = gradients(blended.tensors)
    learner.precision.step(learner.optimizer)
    if learner.average is not None and learner.ema > 0:
        learner.average.follow(learner.ema)
    return StepResult(loss.detach(), (logits.detach().argmax(dim=1) == blended.most(targets)).sum())


def _reseed(seed: int, device: str) -> None:
    # torch.manual_seed would also note the call, with its stack, for every kind of device that is not in use.
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)
