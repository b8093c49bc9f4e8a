"""The handwritten digits inside scikit-learn.

1,797 grey pictures of 8 x 8 pixels (UCI Optical Recognition of Handwritten Digits).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.data.dataset import Dataset, digests_of_arrays, split_of_arrays
from toolkit.data.identical import first_of_each
from toolkit.data.splits import divide
from toolkit.dependencies import import_optional, is_installed
from toolkit.distribution import install_hint
from toolkit.progress import Reporter
from toolkit.recipe import DataRecipe

NOT_INSTALLED = f"the digits are inside scikit-learn, which is not installed: {install_hint('train')}"
_WHITEST = 16


class DigitsSource:
    """Implements ``toolkit.data.base.Source``."""

    name = "digits"
    title = "scikit-learn's digits"
    accepts = repr(name)
    reads_path = False
    downloads = False

    def recognises(self, source: str) -> bool:
        """See ``Source.recognises``."""
        return source == self.name

    def unavailable(self, recipe: DataRecipe, *, network: bool = True) -> str | None:
        """See ``Source.unavailable``."""
        return None if is_installed("sklearn") else NOT_INSTALLED

    def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter) -> Dataset:
        """See ``Source.load``. Pictures are uint8 (0..16 scaled to 0..255); the test split is cut by seed.

        Raises:
            MissingDependencyError: scikit-learn is not installed.
            DataError: a limit is too small.
        """
        bunch = import_optional("sklearn.datasets", NOT_INSTALLED).load_digits()
        images = np.rint(bunch.images * (255 / _WHITEST)).astype(np.uint8)
        targets = bunch.target.astype(np.int64)
        labels = tuple(str(name) for name in bunch.target_names)
        digests = digests_of_arrays(images)
        parts = divide({"train": targets}, labels, recipe, seed, first_of_each(digests))
        return Dataset(
            source=self.name,
            labels=labels,
            splits={
                name: split_of_arrays(
                    name,
                    images[parts[name].indices],
                    targets[parts[name].indices],
                    tuple(f"{self.name}/{index:04d}" for index in parts[name].indices),
                    labels,
                    [digests[index] for index in parts[name].indices],
                )
                for name in splits
            },
        )
