"""Which data sources there are.

Those of the package, and those that other packages add by the entry point ``toolkit.data``.

An entry point names a class without arguments that implements ``data.base.Source``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from toolkit.data.base import Source
from toolkit.data.cifar10 import Cifar10Source
from toolkit.data.csv_file import CsvSource
from toolkit.data.digits import DigitsSource
from toolkit.data.folder import FolderSource
from toolkit.errors import DataError
from toolkit.files import expanded
from toolkit.plugins import Kind, with_plugins
from toolkit.recipe import DataRecipe

ENTRY_POINT = "toolkit.data"
OWN = (Cifar10Source, DigitsSource, CsvSource, FolderSource)
KIND = Kind(
    name="data source",
    protocol="toolkit.data.base.Source",
    required=("name", "title", "accepts", "reads_path", "downloads", "recognises", "unavailable", "load"),
    error=DataError,
)
FALLBACK = FolderSource.name
"""The source that takes what no other recognises: it takes any path."""


@cache
def sources() -> dict[str, Source]:
    """Return every data source by name, the package's own first.

    Raises:
        DataError: a source of another package cannot be loaded, lacks something, or takes a name that exists.
    """
    return with_plugins((own() for own in OWN), entry_points(group=ENTRY_POINT), KIND)


def find_source(source: str) -> Source:
    """Return the data source that recognises ``data.source``.

    Raises:
        DataError: several do, so that it is not clear which is meant.
    """
    known = sources()
    claims = [candidate for name, candidate in known.items() if name != FALLBACK and candidate.recognises(source)]
    if len(claims) > 1:
        names = " and ".join(candidate.name for candidate in claims)
        raise DataError(f"{source!r} is taken by the data sources {names} alike: uninstall one of them.")
    return claims[0] if claims else known[FALLBACK]


def require_source(recipe: DataRecipe) -> Source:
    """Return the data source that a recipe means, which is there.

    Raises:
        DataError: it is a path, and there is nothing, or nothing that the source can read; or it is not clear which
            source is meant.
    """
    source = find_source(recipe.source)
    if source.reads_path:
        if not expanded(recipe.source).exists():
            raise DataError(f"no data source {recipe.source!r}: give {accepted()} (there is none at that path).")
        if (reason := source.unavailable(recipe, network=False)) is not None:
            raise DataError(f"{reason}: give {source.accepts}.")
    return source


def accepted() -> str:
    """Return what ``data.source`` can be, as a list in words."""
    phrases = [known.accepts for name, known in sources().items() if name != FALLBACK]
    return f"{', '.join(phrases)}, or {sources()[FALLBACK].accepts}"


def plain_name(source: str) -> str:
    """Return what a run on ``data.source`` is named after: a path's last part, or the name as it is."""
    return Path(source).name if find_source(source).reads_path else source
