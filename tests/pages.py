"""Reading the Markdown of the documentation: fenced code by its title, links, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES_OF_THE_SITE = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
"""Paths below docs/, without a suffix."""


def text_of(page: str) -> str:
    """Return the text of a page, by its path below the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def fenced(page: str, title: str) -> str:
    """Return the code of the one block of a page that has this title.

    Raises:
        AssertionError: there is none, or more than one.
    """
    blocks = re.findall(rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```$', text_of(page), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, f"{page} has {len(blocks)} blocks titled {title}"
    return str(blocks[0])


def prose(text: str) -> str:
    """Return Markdown without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text)) + re.findall(r'<(?:img|a)[^>]* (?:src|href)="([^"]+)"', text)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and Python-Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of every row of every table, without the rules below the headers."""
    for line in prose(text).splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\-: ]+", line):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
