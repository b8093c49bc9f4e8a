"""JSON as a bundle holds it.

What Python's parser lets through beyond the standard, or cannot survive, is refused with its reason.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def parse_json(content: bytes) -> Any:
    """Parse JSON (RFC 8259) strictly.

    Raises:
        ValueError: naming what is wrong: not UTF-8, not JSON, a key twice in one object, a number that is not finite,
            or nested too deeply.
    """
    try:
        return json.loads(
            content.decode(), object_pairs_hook=_without_duplicates, parse_float=_finite, parse_constant=_no_constant
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        # Parsers differ in which of the two they keep, so two readers would see two bundles.
        if key in members:
            raise ValueError(f"the key {key!r} stands twice in one object")
        members[key] = value
    return members


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
