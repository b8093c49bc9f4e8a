"""Which names a bundle's files may have: the same on Linux, macOS and Windows, and never leading out of the folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

FORBIDDEN = frozenset('<>:"|?*')
"""Characters that Windows has no file names with."""
RESERVED = frozenset(
    (
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"{port}{digit}" for port in ("com", "lpt") for digit in (*"0123456789", *"¹²³")),
    )
)
"""Names that are devices on Windows, whatever their suffix:
https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file"""
LONGEST_NAME = 100
"""Bytes; the longest that a plain tar archive holds (see ``toolkit.bundle.trust.archive``)."""


def name_problem(name: str) -> str | None:
    """Say why a name cannot be that of a file in a bundle, as the end of a sentence; None if it can.

    Args:
        name: path inside the bundle, with forward slashes.
    """
    parts = name.split("/")
    if "\\" in name or any(part in ("", ".", "..") for part in parts):
        return "is not a path inside the bundle"
    if not name.isprintable() or FORBIDDEN.intersection(name):
        return (
            "holds a character that file names cannot have everywhere (control characters and "
            f"{' '.join(sorted(FORBIDDEN))})"
        )
    if any(part.endswith((".", " ")) for part in parts):
        return "has a part that ends in a dot or a space, which Windows drops"
    if reserved := next((part for part in parts if part.split(".")[0].rstrip().casefold() in RESERVED), None):
        return f"has the part {reserved!r}, which is a device on Windows"
    if len(name.encode()) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    return None


def names_problem(names: Iterable[str], own: Iterable[str] = ()) -> str | None:
    """Say why names cannot stand together in one bundle, as the end of "the manifest names ..."; None if they can.

    Args:
        names: paths inside the bundle.
        own: names that the bundle keeps for itself.
    """
    taken = {_folded(name): (name, "a file of the bundle itself") for name in own}
    seen: set[str] = set()
    for name in names:
        if problem := name_problem(name):
            return f"{name!r}, which {problem}"
        if name in seen:
            return f"{name!r} twice"
        seen.add(name)
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            path, kind = "/".join(parts[:depth]), "a file" if depth == len(parts) else "a folder"
            known, known_kind = taken.setdefault(_folded(path), (path, kind))
            if known != path:
                return f"{path!r} and {known!r}, which are the same name on Windows and macOS"
            if kind != known_kind:
                return f"{path!r} as {kind}, which is {known_kind} already"
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
