"""Arguments of calls that are no fields of a recipe: what is of the wrong type is said in a sentence."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from toolkit.errors import ToolkitError
from toolkit.files import expanded


def path_of(argument: str, value: Any) -> Path:
    """Return a path, ``~`` at its start written out.

    Raises:
        ToolkitError: it is no path.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise _wrong(argument, value, "a path, as text or pathlib.Path")
    if "\0" in os.fspath(value):
        raise _wrong(argument, value, "a path, which has no zero character")
    return expanded(value)


def text_of(argument: str, value: Any, example: str) -> str:
    """Return a text that is not empty; paths are texts, too.

    Raises:
        ToolkitError: it is none.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value:
        raise _wrong(argument, value, f"a text such as {example}")
    return value


def names_of(argument: str, value: Any, example: str) -> tuple[str, ...]:
    """Return names; one that stands alone is one of them.

    Raises:
        ToolkitError: it is something else.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise _wrong(argument, value, f"a list of names such as {example}")
    return tuple(value)


def require_known(call: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options by names that there are not.

    Args:
        call: what was called, for the message.
        given: names of the options that were given.
        known: those there are.

    Raises:
        ToolkitError: naming the first unknown one, and those there are.
    """
    names = sorted(known)
    if unknown := [name for name in given if name not in names]:
        meant = "".join(f" (did you mean {name}?)" for name in difflib.get_close_matches(unknown[0], names, n=1))
        raise ToolkitError(f"{call} has no option {unknown[0]!r}{meant}: give one of {', '.join(names)}.")


def _wrong(argument: str, value: Any, valid: str) -> ToolkitError:
    return ToolkitError(f"{argument} cannot be {shortened(value)}: give {valid}.")
