"""Random changes of training images.

What happens to an image in an epoch depends on nothing but seed, epoch and its index.
"""

from __future__ import annotations

import numpy as np

from toolkit.data.batches import Augment, Images, Indices
from toolkit.recipe import AugmentRecipe


def make_augment(recipe: AugmentRecipe, seed: int, epoch: int) -> Augment | None:
    """Return the augmentation of one epoch, or None if the recipe asks for none.

    Flip mirrors left and right with probability one half. Shift moves by whole pixels, drawn uniformly up to the given
    fraction of each side in either direction, and repeats the edge pixels. Batching, order and threads make no
    difference.
    """
    if not recipe.flip and recipe.shift == 0:
        return None

    def augment(images: Images, indices: Indices) -> Images:
        changed = np.empty_like(images)
        farthest = [int(recipe.shift * side + 0.5) for side in images.shape[1:3]]
        for position, index in enumerate(indices):
            rng = np.random.default_rng((seed, epoch, int(index)))
            flip = rng.random() < 0.5
            down, right = (int(rng.integers(-most, most + 1)) for most in farthest)
            image = images[position, :, ::-1] if recipe.flip and flip else images[position]
            changed[position] = _shift(_shift(image, down).swapaxes(0, 1), right).swapaxes(0, 1)
        return changed

    return augment


def make_view(recipe: AugmentRecipe, seed: int, view: int) -> Augment | None:
    """Return what makes one of the kept views of an image, or None where it is the image as it is.

    View 0 is the image itself. With flip every other view is mirrored, so that both sides are kept whatever the number
    of views; shift is drawn as in ``make_augment``.
    """
    mirrored = recipe.flip and view % 2 == 1
    if view == 0 or not (mirrored or recipe.shift):
        return None
    shifted = make_augment(recipe.model_copy(update={"flip": False}), seed, view)

    def augment(images: Images, indices: Indices) -> Images:
        changed = images if shifted is None else shifted(images, indices)
        return np.ascontiguousarray(changed[:, :, ::-1]) if mirrored else changed

    return augment


def default_views(recipe: AugmentRecipe) -> int:
    """Return how many views are kept unless a recipe says otherwise."""
    return 4 if recipe.flip or recipe.shift > 0 else 1


def _shift(image: Images, by: int) -> Images:
    """Move an image (uint8 ``[h, w, 3]``) along its first axis, repeating the edge."""
    if by > 0:
        return np.concatenate([np.repeat(image[:1], by, axis=0), image[:-by]])
    if by < 0:
        return np.concatenate([image[-by:], np.repeat(image[-1:], -by, axis=0)])
    return image
