"""The handwritten digits inside scikit-learn.

1,797 grey pictures of 8 x 8 pixels (UCI Optical Recognition of Handwritten Digits).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.data.dataset import Dataset, split_of_arrays
from toolkit.data.splits import divide
from toolkit.distribution import install_hint
from toolkit.errors import MissingDependencyError
from toolkit.recipe import DataRecipe

_WHITEST = 16


def load_digits(recipe: DataRecipe, seed: int, splits: Sequence[str]) -> Dataset:
    """Load the digits as uint8 pictures (0..16 scaled to 0..255); the test split is cut by seed.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        DataError: a limit is too small.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingDependencyError(
            f"the digits are inside scikit-learn, which is not installed: {install_hint('train')}"
        ) from error
    bunch = datasets.load_digits()
    images = np.rint(bunch.images * (255 / _WHITEST)).astype(np.uint8)
    targets = bunch.target.astype(np.int64)
    labels = tuple(str(name) for name in bunch.target_names)
    parts = divide({"train": targets}, labels, recipe, seed)
    return Dataset(
        source="digits",
        labels=labels,
        splits={
            name: split_of_arrays(
                name,
                images[parts[name].indices],
                targets[parts[name].indices],
                tuple(f"digits/{index:04d}" for index in parts[name].indices),
                labels,
            )
            for name in splits
        },
    )
