"""The trained part of a network behind its frozen frontier, whose steps benchmarks time.

Weights and activations are random: speed does not depend on them.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.command_line import positive, report_parser
from benchmarks.harness.errors import BenchmarkError
from toolkit import provenance
from toolkit.backbones import apply_modes, create_backbone, set_trainable
from toolkit.backbones.frontier import NoFrontierError, divide_at_frontier
from toolkit.recipe import AugmentRecipe, DistillRecipe, StageRecipe, TrainRecipe
from toolkit.training.depthwise import DepthwiseGradients
from toolkit.training.optim import TaughtLoss, make_loss, make_optimizer
from toolkit.training.precision import Precision, choose_precision
from toolkit.training.step import Learner, training_step

SIZES = "64,128,224"
CLASSES = 10
UNFREEZE = 3
"""Blocks that are trained by default, the last ones."""


def steps_parser(name: str, description: str | None, backbones: str, *, rounds: int, seconds: float) -> ArgumentParser:
    """Return a parser for a benchmark that lets sides take turns at steps of several networks.

    Args:
        name: of the benchmark.
        description: of its help.
        backbones: which by default.
        rounds: turns of each side by default.
        seconds: of each turn by default.
    """
    parser = report_parser(name, description)
    parser.add_argument("--backbones", default=backbones, metavar="A,B", help="as of toolkit")
    parser.add_argument("--sizes", default=SIZES, metavar="PIXELS,PIXELS", help="sides of the images")
    parser.add_argument("--unfreeze", type=positive, default=UNFREEZE, metavar="BLOCKS", help="the last ones, trained")
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--threads", type=positive, default=provenance.available_cores())
    parser.add_argument("--rounds", type=positive, default=rounds, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=seconds, help="of each turn")
    return parser


@dataclass(frozen=True)
class Step:
    """The trained part of a network, and one batch for it."""

    learners: Mapping[str, Learner]
    """By side; all train the same weights."""
    tensors: list[torch.Tensor]
    targets: torch.Tensor
    trained: str
    precision: str
    """What was asked for, or what ``auto`` takes."""
    flops: float
    """Of one step of one image, two per multiply-add: forward, and twice as many backward; at most."""

    def make(self, side: str, number: int = 0) -> float:
        """Make a step and return its loss."""
        return float(
            training_step(self.learners[side], self.tensors, self.targets, np.random.SeedSequence(number)).loss
        )


def make_step(
    backbone_name: str, size: int, options: Namespace, sides: Callable[[Learner], Mapping[str, Learner]]
) -> Step:
    """Cut a network at its frozen part and make a batch of random activations.

    Args:
        backbone_name: as of toolkit.
        size: side of the images in pixels.
        options: ``unfreeze``, ``batch_size`` and ``precision``.
        sides: returns the learners that take turns, by side, given the one of the options.

    Raises:
        BenchmarkError: it cannot be cut.
    """
    backbone = create_backbone(backbone_name, weights="none", classes=CLASSES, image_size=size, seed=0)
    parts = set_trainable(backbone, min(options.unfreeze, len(backbone.blocks)))
    backbone.model.to(memory_format=torch.channels_last)
    try:
        (cut,) = divide_at_frontier(backbone, [parts]).cuts
    except NoFrontierError as error:
        raise BenchmarkError(f"{backbone_name} cannot be cut ({error}): choose another backbone.") from error
    apply_modes(backbone, parts)
    generator = torch.Generator().manual_seed(0)
    tensors = [_activations(options.batch_size, tensor.shape, generator) for tensor in cut.tensors]
    device = torch.device("cpu")
    modules = [backbone.model.get_submodule(name) for name in parts.modules]
    precision = Precision(choose_precision(options.precision, device, modules), device)
    # A rate of next to nothing: the sides train the same weights in turns.
    stage = StageRecipe(epochs=1, head_lr=1e-6, backbone_lr=1e-6)
    learner = Learner(
        module=cut.train,
        loss=TaughtLoss(make_loss(TrainRecipe()), DistillRecipe()),
        optimizer=make_optimizer(stage, parts.head, parts.backbone),
        precision=precision,
        depthwise=DepthwiseGradients(),
        augment=AugmentRecipe(),
    )
    return Step(
        learners=sides(learner),
        tensors=tensors,
        targets=torch.randint(CLASSES, (options.batch_size,), generator=generator),
        trained=", ".join(parts.names),
        precision=precision.name,
        flops=3 * forward_flops(cut.train, tensors) / options.batch_size,
    )


def _activations(batch: int, shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    tensor = torch.rand(batch, *shape, generator=generator)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def forward_flops(module: nn.Module, tensors: Sequence[torch.Tensor]) -> float:
    """Count the floating-point operations of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*tensors)
    return float(counter.get_total_flops())


def turn(step: Step, side: str, seconds: float) -> float:
    """Make steps for some time and return images per second."""
    steps, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not steps:
        step.make(side)
        steps += 1
    return steps * len(step.targets) / passed
