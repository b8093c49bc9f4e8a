"""Which weights are kept at the end: those of the best epoch on the validation images, or of the last one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from toolkit.compare.metrics import wilson_interval
from toolkit.recipe import Recipe
from toolkit.training.history import Epoch
from toolkit.training_choices import SCHEDULES

Kept = Literal["best", "best stage", "last", "last sound"]
"""The epoch that is best on the validation images; of the last epochs of all stages the best; the last one; or the last
one whose validation loss is not far above that of what would be kept otherwise."""

ENOUGH_IMAGES = 50
"""Fewer validation images choose nothing: their 95% interval at 80% right is 22 points wide and more."""
MANY_IMAGES = 1000
"""Fewer validation images do not choose between the epochs of a stage: their 95% interval at 80% right is 5 points wide
and more, and the epochs of which a schedule has lowered the rates are closer together."""
LOW = 0.1
"""Of the rates; a schedule that ends below it leaves its last epochs next to each other."""
FAR_ABOVE = (2.0, 0.1)
"""A loss of more than twice another and 0.1 nats: even two images tell that, e.g. that a stage undid the one before."""
AT = 0.8
"""The accuracy at which it is said how far validation can be off."""


@dataclass
class Best:
    """The weights that are kept so far, with what validation said of them.

    Of the epochs the one with the highest validation accuracy (the lower validation loss decides a tie), or the newest.
    """

    stage: int = 0
    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    weights: dict[str, torch.Tensor] | None = None
    score: float = -1.0
    """What the epochs are compared by: the accuracy, or with class weights the mean recall of the classes."""
    settled: bool = False
    """Whether a stage has ended with usable weights."""

    def offer(
        self,
        done: Epoch,
        weights: Mapping[str, torch.Tensor],
        kept: Kept = "best",
        score: float | None = None,
        *,
        ends_stage: bool = False,
    ) -> None:
        """Keep these weights if they are better, or in any case; copied.

        Args:
            done: the epoch.
            weights: after it.
            kept: which epoch is wanted.
            score: what to compare by; the validation accuracy by default.
            ends_stage: whether it is the last epoch of its stage.
        """
        score = done.validation_accuracy if score is None else score
        factor, margin = FAR_ABOVE
        usable = math.isfinite(done.validation_loss) and math.isfinite(score)
        better = math.isfinite(done.validation_loss) and (score, -done.validation_loss) > (self.score, -self.loss)
        wanted = {
            "best": better,
            # Until a stage has ended, the newest stands in for its last: training may diverge before.
            "best stage": better and ends_stage if self.settled else usable,
            "last": True,
            "last sound": done.validation_loss <= factor * self.loss + margin,
        }
        if wanted[kept]:
            self.stage, self.epoch = done.stage, done.epoch
            self.settled |= ends_stage
            self.keep(weights, done.validation_accuracy, done.validation_loss, score)

    def keep(self, weights: Mapping[str, torch.Tensor], accuracy: float, loss: float, score: float) -> None:
        """Keep other weights of the same epoch, copied, with what validation says of them."""
        self.accuracy, self.loss, self.score = accuracy, loss, score
        self.weights = {name: value.detach().cpu().clone() for name, value in weights.items()}


def which_to_keep(recipe: Recipe, validation_images: int) -> Kept:
    """Return which epoch is kept, by how much the validation images can tell.

    Few cannot tell anything. More of them can tell whether a stage has gained, and not which of its epochs is the best:
    where the rates are next to nothing at the end, that is the last one as far as anybody knows. Patience compares
    epochs, so whoever asks for it wants the best.

    Args:
        recipe: as it is run.
        validation_images: of all processes.
    """
    if recipe.train.keep != "auto":
        return recipe.train.keep
    if validation_images < ENOUGH_IMAGES:
        return "last sound"
    low = all(SCHEDULES[stage.schedule](99, 100) < LOW for _, stage in recipe.stages)
    return "best stage" if validation_images < MANY_IMAGES and low and not recipe.train.patience else "best"


def what_validation_tells(recipe: Recipe, images: int) -> str:
    """Say in one line what the validation images can tell apart, and which epoch is kept for that reason."""
    right = round(AT * images)
    interval = wilson_interval(right, images)
    plural = "" if images == 1 else "s"
    line = (
        f"{images} validation image{plural}: accuracy moves in steps of {100 / images:.2g} points, and {right} of "
        f"{images} right can be anything from {interval.low:.0%} to {interval.high:.0%} (95% interval)"
    )
    kept = which_to_keep(recipe, images)
    if kept == "last sound":
        return (
            f"{line}. They are too few to choose an epoch by, so the weights of the last one are kept, or of the last "
            "one before their loss more than doubled (--keep best takes the best one all the same)"
        )
    if kept == "best stage":
        return (
            f"{line}. They tell whether a stage gains, and not which of its epochs is the best, so the weights "
            "after the last one are kept (--keep best takes the best)"
        )
    if kept == "best" and images < ENOUGH_IMAGES:
        return f"{line}. They choose the epoch, as --keep best asks, and are few for that"
    return f"{line}; the weights of the {kept} epoch are kept"
