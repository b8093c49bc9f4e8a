"""New views of some training images: drawn for one epoch, and gone after it.

Which images, and what is drawn, are decided by the seed of the epoch alone, so that a run that goes on in the middle of
an epoch makes the same ones again. They lie in a folder of this process beside the caches, which nobody else uses;
those of a process that was killed are removed as a cache is that was being written.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.training.activations.cache import ActivationCache

_CHOICE = 2
"""Tells what is drawn here from what else is drawn by the seed of an epoch."""


def chosen_images(seed: Sequence[int], count: int, chosen: int) -> npt.NDArray[np.int64]:
    """Return which of so many images get a new view in an epoch, int64 ``[chosen]`` in ascending order.

    Args:
        seed: entropy of the epoch.
        count: number of images.
        chosen: how many of them.
    """
    return np.sort(np.random.default_rng([*seed, _CHOICE]).permutation(count)[:chosen]).astype(np.int64)


@dataclass(frozen=True)
class NewViews:
    """What the frozen part makes of the new views of one epoch.

    Attributes:
        cache: a row for each image that has one.
        places: the row of each image of the split, int64 ``[n]``; -1 where it has none.
        tensors: which of all tensors of the frozen part were kept, in the order of the cache.
    """

    cache: ActivationCache
    places: npt.NDArray[np.int64]
    tensors: tuple[int, ...]

    def read(
        self, tensor: int, images: npt.NDArray[np.int64], kept: ActivationCache, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[Any]:
        """Read the new views of the images that have one, and rows of a cache for the others.

        Args:
            tensor: which one, as the frozen part numbers them.
            images: int64 ``[b]``.
            kept: the views that are kept.
            rows: int64 ``[b]``, of ``kept``, those that are read where an image has no new view.

        Returns:
            ``[b, *shape]``, in the wider of the types of both.
        """
        places = self.places[images]
        new = places >= 0
        ours = self.cache.read(self.tensors.index(tensor), places[new])
        theirs = kept.read(tensor, rows[~new])
        both = np.empty((len(images), *theirs.shape[1:]), np.result_type(ours, theirs))
        both[new], both[~new] = ours, theirs
        return both

    def close(self) -> None:
        """Close the files and remove them."""
        self.cache.close()
        shutil.rmtree(self.cache.folder, ignore_errors=True)
