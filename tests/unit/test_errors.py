from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

from toolkit import errors
from toolkit.errors import ImageSizeError, ToolkitError, UnreadableImagesError, first_line, is_count, require_count


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


@pytest.mark.parametrize("value", [1, 32, np.int64(8), np.uint8(3)])
def test_a_count_is_a_whole_number_of_whatever_library(value: object) -> None:
    assert is_count(value)
    assert type(require_count("batch_size", value)) is int


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "8", None, float("nan"), np.float32(4), [1]])
def test_what_is_no_count_is_named_with_what_is(value: object) -> None:
    with pytest.raises(ToolkitError, match=r"^batch_size is .*: give a whole number of 1 or more\.$"):
        require_count("batch_size", value)


def test_what_another_library_quotes_is_shown_such_that_it_changes_nothing() -> None:
    assert first_line(ValueError("node '\x1b]0;owned\x07' failed\nmore")) == (
        "ValueError: node '\\x1b]0;owned\\x07' failed"
    )


def test_every_error_travels_between_processes() -> None:
    made: dict[type[BaseException], object] = {
        UnreadableImagesError: (("a.png", "it is damaged"),),
        ImageSizeError: (224, 256),
    }
    for kind in descendants(ToolkitError):
        error = kind("what was given", *([made[kind]] if kind in made else []))
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (type(other), str(other), vars(other)) == (kind, "what was given", vars(error))


def test_a_count_may_have_a_largest() -> None:
    assert require_count("threads", 8, 8) == 8
    with pytest.raises(ToolkitError, match="threads is 9: give a whole number from 1 to 8"):
        require_count("threads", 9, 8)
