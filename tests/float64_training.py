"""Training in float64, so that the order of sums is all that two ways of doing it differ by, to the last digits.

In float32 it is not: an input of a ReLU that is rounded to the other side of zero moves the gradients by percents.
Run as a program it is ``toolkit`` that trains so; what is exported of it is float32 as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
import torch
from torch import nn

from toolkit.cli.main import main
from toolkit.training import trainer
from toolkit.training.activations.extraction import Activations
from toolkit.training.batch_sources import Tensors
from toolkit.training.group import Group
from toolkit.training.step import Learner, StepResult
from toolkit.training.trainer import Trainer


@contextmanager
def in_float64() -> Iterator[None]:
    """Let stages that train on kept activations compute in float64."""
    load, share, run = Activations.load, Group.share, Trainer.run

    def load_wide(self: Activations, *arguments: object) -> list[torch.Tensor]:
        return [tensor.double() for tensor in load(self, *arguments)]  # type: ignore[arg-type]  # whatever the batch source passes on

    def share_wide(self: Group, module: nn.Module) -> nn.Module:
        return share(self, module.double())

    def run_wide(self: Trainer) -> object:
        stages = run(self)
        self._setting.backbone.model.float()
        return stages

    def step(
        learner: Learner, tensors: Tensors, targets: torch.Tensor, seed: np.random.SeedSequence, taught: None
    ) -> StepResult:
        learner.optimizer.zero_grad(set_to_none=True)
        logits = learner.module(*tensors)
        assert logits.dtype == torch.float64
        loss = learner.loss(logits, targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        learner.optimizer.step()
        return StepResult(loss.detach(), (logits.argmax(dim=1) == targets).sum())

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Activations, "load", load_wide))
        stack.enter_context(mock.patch.object(Group, "share", share_wide))
        stack.enter_context(mock.patch.object(Trainer, "run", run_wide))
        stack.enter_context(mock.patch.object(trainer, "training_step", step))
        yield


if __name__ == "__main__":
    with in_float64():
        main()
