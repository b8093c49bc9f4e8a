"""Old versions of the manifest, made into the version of today, one step per version.

A step changes what its version meant into what the next one means. It works on parsed JSON that nobody has looked at
yet, so it only moves and adds; the record of today judges the result. tests/assets/manifests holds one manifest per
version, as written by the code of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from toolkit.bundle.manifest import SCHEMA_VERSION


def _from_1(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Version 2 adds a tolerance to each artifact.

    Where it is absent the table of ``toolkit.compare.tolerances`` holds.
    """
    return {**raw, "schema_version": 2}


def _from_2(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Version 3 adds edge inputs, limits and float64 to the golden samples.

    Where they are absent, all samples are images, and the table of ``toolkit.compare.tolerances`` holds.
    """
    return {**raw, "schema_version": 3}


_STEPS: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}
READABLE = (*_STEPS, SCHEMA_VERSION)
"""Versions that can be read."""


def upgraded(raw: object) -> dict[str, Any]:
    """Return a manifest of any readable version as one of today.

    Args:
        raw: parsed JSON.

    Raises:
        ValueError: it has no schema version, or one that cannot be read.
    """
    if not isinstance(raw, dict) or "schema_version" not in raw:
        raise ValueError("no schema version, so it is not the manifest of a bundle")
    version = raw["schema_version"]
    if type(version) is not int or version not in READABLE:
        known = ", ".join(str(number) for number in READABLE[:-1]) + f" and {READABLE[-1]}"
        raise ValueError(f"schema version {version!r}; this toolkit reads versions {known}")
    while raw["schema_version"] != SCHEMA_VERSION:
        raw = _STEPS[raw["schema_version"]](raw)
    return raw
