"""What other packages add by entry points, beside what this package has of the same kind."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint
from typing import Protocol, TypeVar

from toolkit.errors import ToolkitError


class Named(Protocol):
    """What can be looked up by name."""

    name: str


Plugin = TypeVar("Plugin", bound=Named)


def with_plugins(
    own: Iterable[Plugin], entries: Iterable[EntryPoint], kind: str, error: type[ToolkitError]
) -> dict[str, Plugin]:
    """Return the package's own plug-ins and then those of other packages, by name.

    Args:
        own: those of the package.
        entries: entry points that each name a class without arguments.
        kind: what a plug-in is called in a sentence, e.g. ``format``.
        error: what is raised.

    Raises:
        ToolkitError: ``error``: a plug-in of another package cannot be loaded or takes a name that exists.
    """
    known = {plugin.name: plugin for plugin in own}
    for entry in entries:
        origin = entry.dist.name if entry.dist else entry.value
        try:
            plugin: Plugin = entry.load()()
        except Exception as failure:  # code of another package, which may raise anything
            raise error(
                f"the {kind} {entry.name!r} of {origin} cannot be loaded ({failure!r}): update or uninstall that "
                "package."
            ) from failure
        if plugin.name in known:
            raise error(f"{origin} adds a {kind} named {plugin.name!r}, which exists already: uninstall that package.")
        known[plugin.name] = plugin
    return known
