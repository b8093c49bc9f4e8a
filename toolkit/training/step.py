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
    """

    module: nn.Module
    loss: TaughtLoss
    optimizer: torch.optim.Optimizer
    precision: Precision
    depthwise: DepthwiseGradients
    augment: AugmentRecipe
    average: WeightAverage | None = None
    ema: float = 0.0


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
    """Return what a stage trains, as the recipe says; the modes are to be those that ``parts`` were made with."""
    recipe = setting.recipe
    averaged = recipe.train.ema > 0 or recipe.train.average_last > 1
    return Learner(
        module=module,
        loss=TaughtLoss(make_loss(recipe.train, setting.class_weights, setting.device), recipe.distill),
        optimizer=make_optimizer(stage, parts.head, parts.backbone, parts.blocks),
        precision=setting.precision,
        depthwise=setting.depthwise,
        augment=recipe.augment,
        average=WeightAverage(trained_tensors(setting.backbone, parts)) if averaged else None,
        ema=recipe.train.ema,
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
        seed: of dropout and of what is blended in this step. Seeded anew at every step they need no history: a run that
            goes on from a checkpoint draws what it would have drawn.
        taught: the teacher's logits, float32 ``[b, C]``, on the device; None without one.
    """
    _reseed(int(seed.generate_state(1)[0]), learner.precision.device)
    blended = blend(tensors, len(targets), learner.augment, seed)
    learner.optimizer.zero_grad(set_to_none=True)
    with learner.precision.autocast(), learner.depthwise:
        logits = learner.module(*blended.tensors)
    loss = blended.loss(learner.loss, logits.float(), targets, taught)
    learner.precision.backward_and_step(loss, learner.optimizer)
    if learner.average is not None and learner.ema > 0:
        learner.average.follow(learner.ema)
    return StepResult(loss.detach(), (logits.detach().argmax(dim=1) == targets).sum())


def _reseed(seed: int, device: str) -> None:
    # torch.manual_seed would also note the call, with its stack, for every kind of device that is not in use.
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)
