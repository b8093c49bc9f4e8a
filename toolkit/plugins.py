"""What other packages add by entry points, beside what this package has of the same kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Protocol, TypeVar

from toolkit.errors import ToolkitError, raise_interruption


class Named(Protocol):
    """What can be looked up by name."""

    name: str


Plugin = TypeVar("Plugin", bound=Named)


@dataclass(frozen=True)
class Kind:
    """What plug-ins of one kind have in common."""

    name: str
    """What one is called in a sentence, e.g. ``format``."""
    protocol: str
    """Where what it must be is written down, as a dotted name."""
    required: tuple[str, ...]
    """Attributes without which it is none."""
    error: type[ToolkitError]
    """What is raised of it."""


def with_plugins(own: Iterable[Plugin], entries: Iterable[EntryPoint], kind: Kind) -> dict[str, Plugin]:
    """Return the package's own plug-ins and then those of other packages, by name.

    Args:
        own: those of the package.
        entries: entry points that each name a class without arguments.
        kind: what they are.

    Raises:
        ToolkitError: ``kind.error``: a plug-in of another package cannot be loaded, lacks something, or takes a name
            that exists.
    """
    known = {plugin.name: plugin for plugin in own}
    for entry in entries:
        origin = entry.dist.name if entry.dist else entry.value
        try:
            plugin: Plugin = entry.load()()
        except (Exception, SystemExit) as failure:  # code of another package, which may raise anything
            raise_interruption(failure)
            raise kind.error(
                f"the {kind.name} {entry.name!r} of {origin} cannot be loaded ({failure!r}): update or uninstall that "
                "package."
            ) from failure
        if missing := [attribute for attribute in kind.required if not hasattr(plugin, attribute)]:
            raise kind.error(
                f"the {kind.name} {entry.name!r} of {origin} lacks {', '.join(missing)}, see {kind.protocol}: update "
                "or uninstall that package."
            )
        if plugin.name in known:
            raise kind.error(
                f"{origin} adds a {kind.name} named {plugin.name!r}, which exists already: uninstall that package."
            )
        known[plugin.name] = plugin
    return known
