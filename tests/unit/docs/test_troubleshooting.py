"""The sentences of the troubleshooting page are those of the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "troubleshooting.md"
OF_OTHERS = {"toolkit: command not found"}
"""Sentences of other programs."""


@cache
def sentences_of_the_code() -> str:
    """Return every string of the package, one a line, with a blank space for what is filled in."""
    texts = []
    for path in sorted((ROOT / "toolkit").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else " " for part in node.values))
    return "\n".join(text.replace("\n", " ") for text in texts) + "\n" + (ROOT / "Makefile").read_text(encoding="utf-8")


def quoted() -> list[str]:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [row.split("`")[1] for row in rows]


def test_the_page_has_sentences() -> None:
    assert len(quoted()) > 50
    assert len(set(quoted())) == len(quoted())


def said(sentence: str) -> bool:
    parts = [re.escape(part.strip(" .")) for part in sentence.split("...") if part.strip(" .:,;()")]
    return bool(parts) and re.search("[^\n]*?".join(parts), sentences_of_the_code()) is not None


@pytest.mark.parametrize("sentence", [text for text in quoted() if text not in OF_OTHERS])
def test_the_code_says_it(sentence: str) -> None:
    assert said(sentence)


def test_a_sentence_that_the_code_does_not_say_is_noticed() -> None:
    assert said("the loss is ... at stage ..., epoch ...")
    assert not said("the loss is ... at stage ..., lap ...")
    assert not said("...")
