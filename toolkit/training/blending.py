"""Mixup and cutmix: the inputs of a batch blended with each other, on images or on kept activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from toolkit.recipe import AugmentRecipe
from toolkit.training.batch_sources import Tensors

BatchLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Of logits ``[b, C]``, targets ``[b]`` and the logits of a teacher ``[b, C]`` or None: a mean over the batch."""

FEWEST_CELLS = 2
"""A map of a single row and column has nothing to cut."""


@dataclass(frozen=True)
class Blended:
    """A batch after its inputs were blended.

    Attributes:
        tensors: the inputs.
        share: of its own input that each still has; the rest is the other one's.
        other: which input of the batch each was blended with, int64 ``[b]``; None where nothing was.
    """

    tensors: Tensors
    share: float = 1.0
    other: torch.Tensor | None = None

    def loss(
        self, loss: BatchLoss, logits: torch.Tensor, targets: torch.Tensor, taught: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the same blend of the losses to both targets, which is the loss to the blended ones.

        That holds of every loss that is linear in the targets; of others, such as a squared error, up to what the
        network has no influence on.
        """
        if self.other is None:
            return loss(logits, targets, taught)
        of_other = None if taught is None else taught[self.other]
        return self.share * loss(logits, targets, taught) + (1 - self.share) * loss(
            logits, targets[self.other], of_other
        )

    def most(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the target, int64 ``[b]``, of which each input has the larger share; the input's own in equal ones."""
        return targets if self.other is None or self.share >= 0.5 else targets[self.other]


def blend(tensors: Tensors, count: int, recipe: AugmentRecipe, seed: np.random.SeedSequence) -> Blended:
    """Blend each input of a batch with another of it, as the recipe says.

    Mixup (Zhang et al. 2018) adds shares of both. Cutmix (Yun et al. 2019) puts a rectangle of the other one into each;
    where the recipe has both, a batch draws one of them with even odds, as timm does. There is one share per batch.

    Args:
        tensors: of the batch.
        count: b.
        recipe: the parameters of the Beta distributions that shares are drawn from; 0 leaves a way out.
        seed: of the draws.
    """
    if recipe.mixup == 0 and recipe.cutmix == 0:
        return Blended(tensors)
    draw = np.random.default_rng(seed)
    cuts = recipe.cutmix > 0 and (recipe.mixup == 0 or draw.random() < 0.5)
    alpha = recipe.cutmix if cuts else recipe.mixup
    share = float(draw.beta(alpha, alpha))
    other = torch.from_numpy(draw.permutation(count)).to(tensors[0].device)
    if cuts and (box := _draw_box(tensors, share, draw)) is not None:
        return Blended([_cut(tensor, other, box) for tensor in tensors], box.share, other)
    return Blended([_mixed(tensor, other, share) for tensor in tensors], share, other)


def _mixed(tensor: torch.Tensor, other: torch.Tensor, share: float) -> torch.Tensor:
    return tensor.float() * share + tensor[other].float() * (1 - share)


@dataclass(frozen=True)
class _Box:
    """A rectangle on the coarsest grid of a batch's maps, so that it has whole cells on each of them.

    Attributes:
        side: rows and columns of that grid.
        rows: the first, and the one after the last.
        columns: the first, and the one after the last.
    """

    side: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def share(self) -> float:
        """What lies outside of it."""
        height, width = self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]
        return 1 - height * width / self.side**2

    def on(self, side: int) -> tuple[slice, slice]:
        """Return its rows and columns on a grid of so many, at least as fine."""
        rows, columns = (
            slice(round(first * side / self.side), round(end * side / self.side))
            for first, end in (self.rows, self.columns)
        )
        return rows, columns


def _draw_box(tensors: Sequence[torch.Tensor], share: float, draw: np.random.Generator) -> _Box | None:
    """Draw where a rectangle lies that leaves about the given share; None where no tensor is a map.

    Always inside of the map, and so never smaller than drawn: the maps that are kept have as few as four rows, where
    rectangles that are cut off at the edge, as in the paper, would often be next to nothing.
    """
    sides = [tensor.shape[axes[0]] for tensor in tensors if (axes := grid_axes(tensor)) is not None]
    if not sides:
        return None
    side = min(sides)
    length = round(side * (1 - share) ** 0.5)
    top, left = (int(first) for first in draw.integers(0, side - length + 1, 2))
    return _Box(side, (top, top + length), (left, left + length))


def grid_axes(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Return which axes of a batch are rows and columns; None where it has none, such as a vector per image.

    Inputs are square, and so are the maps that are made of them: ``[b, C, h, h]``, or ``[b, h, h, C]`` of images and of
    networks that keep their channels last.
    """
    if tensor.dim() != 4:
        return None
    for rows, columns in ((2, 3), (1, 2)):
        if tensor.shape[rows] == tensor.shape[columns] >= FEWEST_CELLS:
            return rows, columns
    return None


def _cut(tensor: torch.Tensor, other: torch.Tensor, box: _Box) -> torch.Tensor:
    """Put the rectangle of the other input into each; what has no rows and columns is mixed in the same shares.

    So is a vector that was pooled from a map: on average over all places it is what the map with the rectangle would
    be pooled to.
    """
    axes = grid_axes(tensor)
    if axes is None:
        return _mixed(tensor, other, box.share)
    place = [slice(None)] * tensor.dim()
    place[axes[0]], place[axes[1]] = box.on(tensor.shape[axes[0]])
    changed = tensor.clone()
    changed[tuple(place)] = tensor[other][tuple(place)]
    return changed
