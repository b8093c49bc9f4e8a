"""Labelled images from CIFAR-10, scikit-learn's digits, or a folder, divided into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.data.cifar10 import load_cifar10
from toolkit.data.dataset import SPLITS, Dataset, Split
from toolkit.data.digits import load_digits
from toolkit.data.folder import load_folder
from toolkit.errors import DataError
from toolkit.progress import Reporter, Silent
from toolkit.recipe import DataRecipe

__all__ = ["SPLITS", "Dataset", "Split", "load_dataset"]


def load_dataset(
    recipe: DataRecipe, seed: int, *, splits: Sequence[str] = SPLITS, reporter: Reporter | None = None
) -> Dataset:
    """Load labelled images and divide them.

    Args:
        recipe: which images, and how they are divided.
        seed: of the division. Recipe and seed alone decide it, whichever splits are asked for.
        splits: those to read: ``train``, ``validation``, ``test``.
        reporter: where progress is said; nowhere by default.

    Raises:
        DataError: the source is unknown, or its images cannot be used; the message says which and why.
        UnreadableImagesError: files cannot be decoded.
        DownloadError: CIFAR-10 is not on disk and cannot be fetched.
        MissingDependencyError: the source needs a package that is not installed.
    """
    unknown = [name for name in splits if name not in SPLITS]
    if unknown:
        raise DataError(f"there is no split {unknown[0]!r}: give {', '.join(SPLITS)}.")
    speaker = Silent() if reporter is None else reporter
    if recipe.source == "digits":
        return load_digits(recipe, seed, splits)
    if recipe.source == "cifar10":
        return load_cifar10(recipe, seed, splits, speaker)
    if not Path(recipe.source).expanduser().exists():
        raise DataError(
            f"no data source {recipe.source!r}: give 'cifar10', 'digits', or the path of a folder of images (there "
            "is none at that path)."
        )
    return load_folder(recipe, seed, splits, speaker)
