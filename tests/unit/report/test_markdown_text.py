"""Tables, lists and text in Markdown."""

from __future__ import annotations

import pytest

from toolkit.report.markdown_text import bullets, escape, markdown_table
from toolkit.report.tables import Column, Line, Table

COLUMNS = (Column("model", "left"), Column("img/s", group="speed", notice=True), Column("MB", group="model"))


def test_a_table_has_a_rule_that_aligns_and_says_where_figures_are_missing() -> None:
    table = Table(COLUMNS, (Line(("on|nx", "12", "3")), Line(("pt2",), missing="it failed")))
    assert markdown_table(table).splitlines() == [
        "| model | img/s | MB |",
        "| --- | ---: | ---: |",
        "| on\\|nx | 12 | 3 |",
        "| pt2 | not measured, see below |  |",
    ]


def test_a_list_has_a_line_each() -> None:
    assert bullets(["one", "two"]) == "- one\n- two"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b", "a_b"),
        ("_a_", "\\_a\\_"),
        ("*x* `y` <b>", "\\*x\\* \\`y\\` \\<b>"),
        ("[a](b)", "[a]\\(b)"),
        ("two\n\nlines", "two lines"),
        ("__init__", "\\_\\_init\\_\\_"),
        ("a__b", "a__b"),
        ("~~x~~ $y$ &lt;", "\\~\\~x\\~\\~ \\$y\\$ \\&lt;"),
        ("@someone, a/b#12", "@&#8203;someone, a/b#&#8203;12"),
        ("GH-7 gh-7 a!8", "GH-&#8203;7 gh-&#8203;7 a!&#8203;8"),
        ("HIGH-7 wow!", "HIGH-7 wow!"),
        ("# 1", "# 1"),
        ("www.a.b http://a.b", "www\\.a.b http:\\//a.b"),
    ],
)
def test_text_is_read_as_text(text: str, written: str) -> None:
    assert escape(text) == written
