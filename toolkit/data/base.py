"""What a data source is: one file that recognises what a recipe writes in ``data.source`` and loads its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from toolkit.data.dataset import Dataset
from toolkit.download import cache_folder
from toolkit.files import expanded
from toolkit.progress import Reporter
from toolkit.recipe import DataRecipe


class Source(Protocol):
    """A source of labelled images.

    ``toolkit.data.registry`` finds them; others add theirs under the entry point ``toolkit.data``. What a source
    recognises can be trained on, and later stages read its test images again, by the run's own recipe.
    """

    name: str
    """Identifies the source among all others."""
    title: str
    """What a sentence calls it, e.g. the name of the data set as its authors write it."""
    accepts: str
    """What to write in ``data.source``, as a phrase that an error lists: a quoted name, or ``the path of a ...``."""
    reads_path: bool
    """Whether ``data.source`` is a path. It is then made absolute, so that later stages find it from anywhere."""
    downloads: bool
    """Whether missing files are fetched into ``files_root(recipe)``."""

    def recognises(self, source: str) -> bool:
        """Tell whether this ``data.source`` is meant for this source; the file it names need not exist."""

    def unavailable(self, recipe: DataRecipe, *, network: bool = True) -> str | None:
        """Say in one phrase why the images cannot be had; None if they can.

        Args:
            recipe: which images.
            network: whether a host may be asked, for some seconds, about what is not on disk.

        Raises:
            DataError: as ``load`` would; of what can be seen without reading images.
        """

    def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter) -> Dataset:
        """Load labelled images, divided as ``recipe`` and ``seed`` say (``toolkit.data.splits.divide`` does so).

        Args:
            recipe: which images, and how they are divided.
            seed: of the division. Recipe and seed alone decide it, whichever splits are asked for: a later stage that
                asks for the test split alone must get the images that fine-tuning set aside.
            splits: those to read, of ``toolkit.data.SPLITS``. The images of others need not be opened.
            reporter: where progress goes.

        Raises:
            DataError: the images cannot be used; the message says which and why.
            UnreadableImagesError: files cannot be decoded.
            DownloadError: files are not on disk and cannot be fetched.
            MissingDependencyError: a package is not installed.
        """


def files_root(recipe: DataRecipe) -> Path:
    """Return the folder where sources keep what they fetch: the recipe's, or one in the user's cache folder."""
    return expanded(recipe.root) if recipe.root is not None else cache_folder() / "data"
