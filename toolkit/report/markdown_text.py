"""The parts of a Markdown file: a table, a list, text that is read as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from toolkit.printable import printable
from toolkit.report.tables import Table


def markdown_table(table: Table) -> str:
    """Return a table."""
    head = [escape(column.header) for column in table.columns]
    rule = ["---" if column.align == "left" else "---:" for column in table.columns]
    lines = [_row(head), _row(rule)]
    for line in table.lines:
        cells = [escape(cell) for cell in line.cells]
        if line.missing is not None:
            # Markdown has no spanning cells: the reason stands in full under "What was not measured".
            noticed = next(index for index, column in enumerate(table.columns) if column.notice)
            cells = [
                cells[index] if index < len(cells) else "not measured, see below" if index == noticed else ""
                for index in range(len(head))
            ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def bullets(lines: Sequence[str]) -> str:
    """Return a list of lines."""
    return "\n".join(f"- {line}" for line in lines)


_MENTION = re.compile(r"@(?=\w)|(?<!&)#(?=\d)|!(?=\d)|\bGH-(?=\d)", re.IGNORECASE)
"""What GitHub and GitLab make a link to a person, who is told of it, or to an issue or a merge request
(https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/autolinked-references-and-urls);
a backslash does not help."""
_ADDRESS = re.compile(r"(?i)(?<=\bhttp:)/|(?<=\bhttps:)/|(?<=\bftp:)/|(?<=\bwww)\.")
"""Where GitHub begins a link, though nobody wrote one."""


def code(text: str) -> str:
    """Return text as code, whatever it holds."""
    flat = printable(" ".join(text.split()))
    longest = max(map(len, re.findall("`+", flat)), default=0)
    fence, blank = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{blank}{flat}{blank}{fence}"


def escape(text: str) -> str:
    """Keep labels and messages from being read as Markdown, GitHub's too."""
    text = re.sub(r"([\\|*`<&~$])", r"\\\1", printable(" ".join(text.split()))).replace("](", "]\\(")
    text = _ADDRESS.sub(lambda match: "\\" + match[0], text)
    text = _MENTION.sub(lambda match: f"{match[0]}&#8203;", text)
    # Inside a word an underscore is an underscore.
    return re.sub(r"(?<!\w)_+|_+(?!\w)", lambda match: r"\_" * len(match[0]), text)
