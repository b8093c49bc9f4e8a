from __future__ import annotations

import re

import pytest

from toolkit import errors
from toolkit.errors import ToolkitError, UnreadableImagesError, first_line, unprintable, visible


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
    ],
)
def test_another_librarys_error_inside_one_sentence(error: BaseException, line: str) -> None:
    assert first_line(error) == line


def test_what_could_change_what_a_terminal_shows_is_found_and_can_be_written_out() -> None:
    assert [unprintable(text) for text in ("a\x1bb", "a\nb", "\u2066", "\ud800", "na\u00efve \u732b \U0001f408")] == [
        "U+001B",
        "U+000A",
        "U+2066",
        "U+D800",
        None,
    ]
    assert unprintable("a\n\tb", lines=True) is None
    assert unprintable("a\n\x07", lines=True) == "U+0007"
    assert visible("\x1b[2J \u202e \x9b \ud800 \u732b\\") == "\\x1b[2J \\u202e \\x9b \\ud800 \u732b\\"


def test_what_another_library_quotes_is_shown_such_that_it_changes_nothing() -> None:
    assert first_line(ValueError("node '\x1b]0;owned\x07' failed\nmore")) == (
        "ValueError: node '\\x1b]0;owned\\x07' failed"
    )
