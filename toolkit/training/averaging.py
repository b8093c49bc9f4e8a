"""Averages of the weights: the exponential moving average over the steps, and the mean over the last epochs.

What is averaged is what validation looks at and what is kept; training itself goes on with its own weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch

from toolkit.recipe import TrainRecipe

WARM_UP = 10
"""The decay rises with the number of updates, (1 + n) / (10 + n), so that the first weights are soon forgotten: that of
``tf.train.ExponentialMovingAverage``."""


def decay_at(decay: float, updates: int) -> float:
    """Return the decay of the exponential moving average after so many updates."""
    return min(decay, (1 + updates) / (WARM_UP + updates))


class WeightAverage:
    """An average of weights that change.

    Statistics of BatchNorm that are trained (``--train-bn``) are averaged like the weights, as timm's ``ModelEmaV3``
    does and unlike Izmailov et al. 2018, who estimate them anew because they average weights that lie far apart: those
    of neighbouring steps, and of the epochs at the end of a schedule, do not. Who wants them estimated all the same has
    ``--bn-reestimate``. Where BatchNorm is frozen, which is the default, there is nothing to average or to estimate.

    Attributes:
        weights: the average, float32, by name; empty before the first update.
        updates: how many there were.
    """

    def __init__(self, live: Mapping[str, torch.Tensor]) -> None:
        """Begin.

        Args:
            live: the weights that change, by name; those that are no floating point numbers are left out.
        """
        self._live = {name: tensor for name, tensor in live.items() if tensor.is_floating_point()}
        self.weights: dict[str, torch.Tensor] = {}
        self.updates = 0

    def load(self, weights: Mapping[str, torch.Tensor], updates: int) -> None:
        """Put back what a checkpoint kept: ``weights`` and ``updates``."""
        self.weights = {name: value.to(self._live[name].device).clone() for name, value in weights.items()}
        self.updates = updates

    def follow(self, decay: float) -> None:
        """Move the exponential moving average by one step; the first one copies the weights."""
        self._move(1 - decay_at(decay, self.updates))

    def add(self) -> None:
        """Take the weights as they are into the mean of all that were added."""
        self._move(1 / (1 + self.updates))

    def _move(self, share: float) -> None:
        if self.weights:
            names = list(self._live)
            with torch.no_grad():
                torch._foreach_lerp_(
                    [self.weights[name] for name in names], [self._live[name].detach() for name in names], share
                )
        else:
            self.weights = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self.updates += 1

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the average in place of the weights in the block; without an update they stay."""
        with torch.no_grad():
            own = {name: self._live[name].clone() for name in self.weights}
            self._put(self.weights)
            try:
                yield
            finally:
                self._put(own)

    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, value in weights.items():
            self._live[name].copy_(value)


def first_averaged(recipe: TrainRecipe, epochs: int) -> int | None:
    """Return the first epoch of a last stage whose weights the mean takes in; None where there is no mean.

    Args:
        recipe: over how many epochs.
        epochs: of the stage.
    """
    return max(1, epochs - recipe.average_last + 1) if recipe.average_last > 1 else None
