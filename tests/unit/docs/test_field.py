"""The table of situations names tests that exist: a row without its test is a claim."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from pages import ROOT, rows, text_of

PAGE = "docs/field.md"
TABLE = [row for row in rows(text_of(PAGE)) if len(row) == 4 and row[0] not in ("situation", "---")]
BY_HAND = ("by hand", "none")


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Return the functions and classes of a file, those of a class also as ``Class::function``."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inside = [child.name for child in node.body if isinstance(child, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}::{name}" for name in inside)}
    return frozenset(found)


def problem(row: list[str]) -> str | None:
    """Say which test of a row does not exist; None if all do."""
    named = re.findall(r"(tests/[\w/.]+\.py)(?:::([\w:]+))?", row[3])
    if not named and not any(word in row[3] for word in BY_HAND):
        return "it names no test and does not say that it was tried by hand"
    for path, name in named:
        if not (ROOT / path).is_file():
            return f"there is no {path}"
        if name and name not in names_in(path):
            return f"there is no {name} in {path}"
    return None


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0][:60])
def test_each_situation_has_its_test(row: list[str]) -> None:
    assert problem(row) is None


def test_a_test_that_is_gone_is_noticed() -> None:
    gone = ["", "", "", "`tests/unit/docs/test_field.py::test_that_there_is_not`"]
    assert problem(gone) == "there is no test_that_there_is_not in tests/unit/docs/test_field.py"
    assert problem(["", "", "", "`tests/unit/docs/test_nothing.py`"]) == "there is no tests/unit/docs/test_nothing.py"
    assert problem(["", "", "", "here::test"]) is not None
    assert problem(["", "", "", "tried by hand"]) is None


def test_the_page_counts_its_rows() -> None:
    count = re.search(r"(\d+) situations", text_of(PAGE))
    assert count is not None
    assert int(count[1]) == len(TABLE) > 200
