"""From a name to the source that knows it."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import cast

from toolkit.backbones.asked import SOURCES, check_prefix
from toolkit.backbones.backbone import Source
from toolkit.dependencies import require_for_training
from toolkit.errors import BackboneError

NAMED_AFTER_PACKAGES = ("torchvision", "timm")
"""Sources whose prefix is the package that they need."""
_SUGGESTIONS = 4


def source(prefix: str) -> Source:
    """Return a source of models. Importing timm takes seconds, so each is imported when it is first needed.

    Raises:
        MissingDependencyError: the package that it stands for is not installed, or cannot be imported.
    """
    if prefix in NAMED_AFTER_PACKAGES:
        require_for_training(prefix)
    return cast(Source, import_module(f"toolkit.backbones.source_{prefix}"))


def canonical_name(name: str) -> str:
    """Return ``source:name``; a bare name is looked up in torchvision first, then in timm.

    Raises:
        BackboneError: no source has such a model; close names are given.
    """
    check_prefix(name)
    prefix, colon, bare = name.partition(":")
    if not colon:
        prefix, bare = "", name
    candidates = (prefix,) if prefix else SOURCES
    for candidate in candidates:
        if source(candidate).has(bare):
            return f"{candidate}:{bare}"
    raise BackboneError(f"no backbone {name!r}. {_suggest(bare)}")


def split_name(name: str) -> tuple[str, Source, str]:
    """Return the canonical name, the source and the name inside the source.

    Raises:
        BackboneError: no source has such a model.
    """
    canonical = canonical_name(name)
    prefix, _, bare = canonical.partition(":")
    return canonical, source(prefix), bare


def _suggest(bare: str) -> str:
    close = [
        f"{prefix}:{match}"
        for prefix in SOURCES
        for match in difflib.get_close_matches(bare.lower(), source(prefix).names(), _SUGGESTIONS)
    ]
    listing = "'toolkit backbones' lists torchvision's models, 'toolkit backbones timm:*' those of timm."
    return f"Close names: {', '.join(close)}; {listing}" if close else f"Nothing is spelled like it: {listing}"
