from __future__ import annotations

import re

import pytest

from toolkit import errors
from toolkit.errors import ToolkitError, UnreadableImagesError, first_line


def descendants(kind: type[BaseException]) -> list[type[BaseException]]:
    own = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(further for child in own for further in descendants(child))]


def drawn_parents() -> dict[str, str]:
    """Each class of the drawing with the one above it: four columns of indentation are one generation."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]*)([A-Z]\w*Error)\b", line):
            depth = (len(match[1]) + 3) // 4
            above[depth:] = [match[2]]
            parents[match[2]] = above[depth - 1] if depth else "Exception"
    return parents


def test_the_tree_is_drawn_as_it_is() -> None:
    assert drawn_parents() == {kind.__name__: kind.__base__.__name__ for kind in descendants(ToolkitError)}  # type: ignore[union-attr]  # no class but object lacks a base


def test_every_error_is_bad_input_for_the_command_line() -> None:
    assert {kind.exit_code for kind in descendants(ToolkitError)} == {2}  # type: ignore[attr-defined]  # as its root has


def test_unreadable_images_keep_their_reasons() -> None:
    error = UnreadableImagesError("2 images cannot be decoded", [("a.png", "truncated"), ("b.png", "no image")])
    assert str(error) == "2 images cannot be decoded"
    assert error.failures == (("a.png", "truncated"), ("b.png", "no image"))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (RuntimeError("\n\n   indented   \nmore"), "RuntimeError: indented"),
        (KeyError(), "KeyError"),
        (OSError("  \n "), "OSError"),
        (RuntimeError("step \x1b[96m3/3\x1b[0m failed"), "RuntimeError: step 3/3 failed"),
    ],
)
def test_another_librarys_error_inside_one_sentence(error: BaseException, line: str) -> None:
    assert first_line(error) == line
