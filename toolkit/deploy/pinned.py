"""The versions that are installed here, so that an image is built of what was tried: constraints for pip."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

from toolkit.distribution import DISTRIBUTION, install_hint
from toolkit.errors import MissingDependencyError

_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[(?P<extras>[^]]*)\])?(?P<rest>[^;]*)(;(?P<marker>.*))?"
)
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
SAME_VERSIONS = {"onnxruntime": ("onnxruntime-gpu",)}
"""Packages that are released together: where the first is not installed, its version is that of another."""


def pinned(extras: Iterable[str]) -> dict[str, str]:
    """Return the packages that toolkit needs with some of its extras, and the versions of them that are installed here.

    What these need is looked for too. A package that is not installed here, because only another system needs it, is
    left out; one that only this system needs is in, and does no harm among constraints.

    Args:
        extras: names under ``[project.optional-dependencies]``.

    Returns:
        Name to version, in the order of the names; without toolkit itself.

    Raises:
        MissingDependencyError: toolkit itself is not installed as a package, so that nothing is known of what it needs.
    """
    found: dict[str, str] = {}
    looked_at: set[tuple[str, str | None]] = set()
    waiting: list[tuple[str, str | None]] = [(DISTRIBUTION, extra) for extra in (None, *extras)]
    if _installed(DISTRIBUTION) is None:
        raise MissingDependencyError(
            f"the versions that an image is built of are those of an installation, and toolkit is not installed as a "
            f"package here: {install_hint('cpu')}."
        )
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in looked_at:
            continue
        looked_at.add((name, extra))
        distribution = _installed(name)
        if distribution is None:
            continue
        if name != DISTRIBUTION:
            found[name] = distribution.version.partition("+")[0]
        for required, further in _required(distribution, extra):
            waiting += [(required, each) for each in (None, *further)]
    return dict(sorted(found.items()))


def _required(distribution: metadata.Distribution, extra: str | None) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield what a package needs in any case, or with an extra: names and their extras."""
    for text in distribution.requires or ():
        match = _REQUIREMENT.match(text)
        if match is None:
            continue
        asked = _EXTRA.search(match["marker"] or "")
        if (asked[1] if asked else None) == extra:
            extras = tuple(each.strip() for each in (match["extras"] or "").split(",") if each.strip())
            yield _normalised(match["name"]), extras


def _installed(name: str) -> metadata.Distribution | None:
    for candidate in (name, *SAME_VERSIONS.get(name, ())):
        try:
            return metadata.distribution(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def _normalised(name: str) -> str:
    """Return a name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
