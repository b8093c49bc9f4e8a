"""JSON as a bundle holds it.

What Python's parser lets through beyond the standard, or cannot survive, is refused with its reason. Bounds on nesting
and on the number of values are here and not in the records, because a record that is wrong in a million places says so
a million times.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from toolkit.printable import unprintable

DEEPEST = 32
"""Objects and arrays inside each other; what toolkit writes has less than 10."""
MOST_VALUES = 250_000
"""Values in one file, beside the numbers of ``NUMBERS``; 22,000 classes with the result of each take 130,000."""
MOST_NUMBERS = 2_000_000
"""Numbers under the keys of ``NUMBERS`` in one file; 20 samples of 22,000 classes have 880,000."""
NUMBERS: Mapping[str, tuple[int, tuple[type, ...]]] = {
    "confusion": (2, (int,)),
    "logits": (1, (int, float)),
    "probabilities": (1, (int, float)),
}
"""Keys whose arrays may be long, because they hold numbers only: how many arrays inside each other, and the numbers."""
LINES = frozenset(("recipe", "intended_use"))
"""Keys whose text has more than one line."""
MOST_DIGITS = 300
"""Of a whole number; what has more does not fit into a floating-point number."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
"""One that is cut off is matched too, so that no byte is looked at twice."""


class LimitError(ValueError):
    """JSON that no bundle of toolkit holds; the message says what is too much."""


def parse_json(content: bytes) -> Any:
    """Parse JSON (RFC 8259) strictly.

    Raises:
        ValueError: naming what is wrong: not UTF-8, not JSON, a key twice in one object, a number that is not finite or
            has more than 300 digits, text that would change how a terminal shows other text, or too many values or too
            deeply nested.
    """
    _require_shallow(content)
    if content.count(b",") > MOST_VALUES + MOST_NUMBERS:
        raise LimitError(f"it has more than {MOST_VALUES + MOST_NUMBERS} values")
    text = content.decode()
    tree = json.loads(
        text,
        object_pairs_hook=_without_duplicates,
        parse_float=_finite,
        parse_int=_whole,
        parse_constant=_no_constant,
    )
    _require_plain(tree)
    return tree


def _require_shallow(content: bytes) -> None:
    """Look at the brackets outside of strings, before a parser makes objects of them."""
    depth, outside = 0, _STRING.sub(b"", content)
    if outside.count(b"[") + outside.count(b"{") > MOST_VALUES:
        raise LimitError(f"it has more than {MOST_VALUES} values")
    for bracket in re.finditer(rb"[\[\]{}]", outside):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > DEEPEST:
            raise LimitError(f"it is nested too deeply: more than {DEEPEST} objects and arrays inside each other")


def _require_plain(tree: Any) -> None:
    """Count the values, and look at every text."""
    values = 0
    waiting: list[tuple[str, Iterable[Any]]] = [("", (tree,))]
    while waiting:
        key, items = waiting.pop()
        for item in items:
            values += 1
            if values > MOST_VALUES:
                raise LimitError(f"it has more than {MOST_VALUES} values")
            if isinstance(item, str):
                _require_text(key, item)
            elif isinstance(item, list):
                waiting.append((key, item))
            elif isinstance(item, dict):
                for name, value in item.items():
                    _require_text("", name)
                    waiting.append((name, _without_numbers(value, *NUMBERS[name]) if name in NUMBERS else (value,)))


def _require_text(key: str, text: str) -> None:
    if found := unprintable(text, lines=key in LINES):
        raise LimitError(
            f"{f'the text of {key!r}' if key else 'a text'} holds the character {found}, which could change what a "
            "terminal shows"
        )


def _without_numbers(value: Any, depth: int, allowed: tuple[type, ...]) -> Iterable[Any]:
    """Yield what is in an array beside the numbers that it is for; in arrays of arrays, beside those of the inner."""
    if not isinstance(value, list):
        yield value
    elif depth > 1:
        for inner in value:
            yield from _without_numbers(inner, depth - 1, allowed)
    else:
        yield from (item for item in value if type(item) not in allowed)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        # Parsers differ in which of the two they keep, so two readers would see two bundles.
        if key in members:
            raise ValueError(f"the key {key!r} stands twice in one object")
        members[key] = value
    return members


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"the number {text[:40]} is too large: it has {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
