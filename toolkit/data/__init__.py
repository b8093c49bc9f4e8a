"""Labelled images from any data source, divided into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.bundle.manifest import LONGEST_LABEL, label_problem
from toolkit.data.dataset import SPLITS, Dataset, Split
from toolkit.data.registry import require_source
from toolkit.errors import DataError
from toolkit.printable import printable, unprintable
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
        DownloadError: what the source downloads is not on disk and cannot be fetched.
        MissingDependencyError: the source needs a package that is not installed.
    """
    unknown = [name for name in splits if name not in SPLITS]
    if unknown:
        raise DataError(f"there is no split {unknown[0]!r}: give {', '.join(SPLITS)}.")
    dataset = require_source(recipe).load(recipe, seed, splits, reporter or Silent())
    _require_plain(dataset.labels)
    return dataset


def _require_plain(labels: Sequence[str]) -> None:
    """Refuse names of classes that could not be shown, or not be told from others where they are."""
    for label in labels:
        if found := unprintable(label):
            raise DataError(
                f"the class '{printable(label)}' holds the character {found}, which could change what a terminal "
                "shows: rename it."
            )
        if len(label) > LONGEST_LABEL:
            raise DataError(
                f"the class {label[:40]!r}... has a name of {len(label)} characters: give it one of at most "
                f"{LONGEST_LABEL}."
            )
    if problem := label_problem(labels):
        raise DataError(f"of the classes {problem}, and by its name a class must be told from the others: rename it.")
