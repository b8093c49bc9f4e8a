"""Which weights are kept at the end: those of the best epoch on the validation images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from toolkit.finetune.history import Epoch


@dataclass
class Best:
    """The weights with the highest validation accuracy so far (the lower validation loss decides a tie)."""

    stage: int = 0
    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    weights: dict[str, torch.Tensor] | None = None

    def offer(self, done: Epoch, weights: Mapping[str, torch.Tensor]) -> None:
        """Keep these weights if they are better; copied."""
        if (done.validation_accuracy, -done.validation_loss) > (self.accuracy, -self.loss):
            self.stage, self.epoch, self.accuracy, self.loss = (
                done.stage,
                done.epoch,
                done.validation_accuracy,
                done.validation_loss,
            )
            self.weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
