"""Random changes of training images. What happens to an image in an epoch depends on nothing but seed, epoch and its index."""

from __future__ import annotations

import numpy as np

from toolkit.data.batches import Augment, Images, Indices
from toolkit.recipe import AugmentRecipe


def make_augment(recipe: AugmentRecipe, seed: int, epoch: int) -> Augment | None:
    """Return the augmentation of one epoch, or None if the recipe asks for none.

    Flip mirrors left and right with probability one half. Shift moves by whole pixels, drawn uniformly up to the given fraction of each
    side in either direction, and repeats the edge pixels. Batching, order and threads make no difference.
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


def _shift(image: Images, by: int) -> Images:
    """Move an image (uint8 ``[h, w, 3]``) along its first axis, repeating the edge."""
    if by > 0:
        return np.concatenate([np.repeat(image[:1], by, axis=0), image[:-by]])
    if by < 0:
        return np.concatenate([image[-by:], np.repeat(image[-1:], -by, axis=0)])
    return image
