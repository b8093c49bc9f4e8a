"""Random changes of training images.

What happens to an image in an epoch, or in a view that is kept, depends on nothing but seed, epoch or view, and its
index: all draws are made from these, none from a generator that is shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.data.batches import AS_IT_IS, Augment, Crop, Images, Indices, View
from toolkit.data.randaugment import rand_augment
from toolkit.preprocess import WHOLE, Part
from toolkit.recipe import AugmentRecipe

CROP_RATIOS = (3 / 4, 4 / 3)
ERASED_RATIOS = (0.3, 3.3)
SMALLEST_ERASED = 0.02
_ATTEMPTS = 10
"""Sides and attempts as in torchvision's ``RandomResizedCrop`` and ``RandomErasing``."""
_CROP, _RANDAUGMENT, _ERASE = 1, 2, 3
"""What is drawn beside flip and shift, each from a generator of its own: one does not change another's draws."""


def epoch_view(recipe: AugmentRecipe, seed: Sequence[int]) -> View:
    """Return how images are changed in one epoch, all of it drawn.

    Args:
        recipe: what changes.
        seed: entropy of the epoch, the recipe's seed first.
    """
    first, *rest = seed
    return _drawn(recipe, first, int(np.random.SeedSequence(rest).generate_state(1)[0]))


def make_view(recipe: AugmentRecipe, seed: int, view: int) -> View:
    """Return what makes one of the kept views of an image.

    View 0 is the image itself. With flip every other view is mirrored, so that both sides are kept whatever the number
    of views; everything else is drawn as for an epoch.
    """
    if view == 0:
        return AS_IT_IS
    drawn = _drawn(recipe.model_copy(update={"flip": False}), seed, view)
    return View(drawn.crop, _mirrored(drawn.augment)) if recipe.flip and view % 2 == 1 else drawn


def default_views(recipe: AugmentRecipe) -> int:
    """Return how many views are kept unless a recipe says otherwise."""
    return 4 if recipe.changes_images else 1


def make_crop(recipe: AugmentRecipe, seed: int, epoch: int) -> Crop | None:
    """Return the random resized crop of one epoch, or None if the recipe asks for none.

    Area and ratio of the sides are drawn as torchvision's ``RandomResizedCrop`` draws them, as shares of the prepared
    image, so that a network of another size sees the same part.
    """
    if recipe.crop == 0:
        return None

    def crop(indices: Indices) -> list[Part]:
        return [_part(recipe.crop, np.random.default_rng((seed, epoch, int(index), _CROP))) for index in indices]

    return crop


def make_augment(recipe: AugmentRecipe, seed: int, epoch: int) -> Augment | None:
    """Return what changes the prepared pixels in one epoch, or None if the recipe asks for nothing of the kind.

    Flip mirrors left and right with probability one half. Shift moves by whole pixels, drawn uniformly up to the given
    fraction of each side in either direction, and repeats the edge pixels. Then come RandAugment and random erasing.
    Batching, order and threads make no difference.
    """
    if not (recipe.flip or recipe.shift or recipe.randaugment or recipe.erase):
        return None

    def augment(images: Images, indices: Indices) -> Images:
        changed = np.empty_like(images)
        farthest = [int(recipe.shift * side + 0.5) for side in images.shape[1:3]]
        for position, index in enumerate(indices):
            drawn = (seed, epoch, int(index))
            rng = np.random.default_rng(drawn)
            flip = rng.random() < 0.5
            down, right = (int(rng.integers(-most, most + 1)) for most in farthest)
            image = images[position, :, ::-1] if recipe.flip and flip else images[position]
            image = _shift(_shift(image, down).swapaxes(0, 1), right).swapaxes(0, 1)
            if recipe.randaugment:
                rng = np.random.default_rng((*drawn, _RANDAUGMENT))
                image = rand_augment(image, recipe.randaugment, recipe.magnitude, rng)
            changed[position] = image
            if recipe.erase:
                _erase(changed[position], recipe, np.random.default_rng((*drawn, _ERASE)))
        return changed

    return augment


def _drawn(recipe: AugmentRecipe, seed: int, epoch: int) -> View:
    return View(make_crop(recipe, seed, epoch), make_augment(recipe, seed, epoch))


def _mirrored(augment: Augment | None) -> Augment:
    def mirrored(images: Images, indices: Indices) -> Images:
        changed = images if augment is None else augment(images, indices)
        return np.ascontiguousarray(changed[:, :, ::-1])

    return mirrored


def _part(smallest: float, rng: np.random.Generator) -> Part:
    """Draw a part of an image: its area, the ratio of its sides, and where it lies; the whole where none fits."""
    for _ in range(_ATTEMPTS):
        width, height = _sides(rng, (smallest, 1.0), CROP_RATIOS)
        if width <= 1 and height <= 1:
            left, top = rng.random() * (1 - width), rng.random() * (1 - height)
            return left, top, left + width, top + height
    return WHOLE


def _erase(image: Images, recipe: AugmentRecipe, rng: np.random.Generator) -> None:
    """Perhaps fill a rectangle of an image (uint8 ``[h, w, 3]``, changed in place) with its mean colour."""
    if rng.random() >= recipe.erase:
        return
    for _ in range(_ATTEMPTS):
        across, down = _sides(rng, (SMALLEST_ERASED, recipe.erase_area), ERASED_RATIOS)
        if across < 1 and down < 1:
            places = rng.random(2)
            rows = _stretch(image.shape[0], down, places[0])
            columns = _stretch(image.shape[1], across, places[1])
            image[rows, columns] = np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
            return


def _sides(rng: np.random.Generator, areas: tuple[float, float], ratios: tuple[float, float]) -> tuple[float, float]:
    """Draw width and height of a rectangle as shares of the sides, from ranges of its area and of width over height."""
    area = rng.uniform(*areas)
    ratio = math.exp(rng.uniform(math.log(ratios[0]), math.log(ratios[1])))
    return math.sqrt(area * ratio), math.sqrt(area / ratio)


def _stretch(side: int, share: float, place: float) -> slice:
    """Return a stretch of a side in whole pixels; ``place`` is where it lies, from 0 to 1."""
    length = round(share * side)
    start = int(place * (side - length + 1))
    return slice(start, start + length)


def _shift(image: npt.NDArray[np.uint8], by: int) -> npt.NDArray[np.uint8]:
    """Move an image (uint8 ``[h, w, 3]``) along its first axis, repeating the edge."""
    if by > 0:
        return np.concatenate([np.repeat(image[:1], by, axis=0), image[:-by]])
    if by < 0:
        return np.concatenate([image[-by:], np.repeat(image[-1:], -by, axis=0)])
    return image
