"""A figure as part of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from toolkit.report.canvas import INK
from toolkit.report.svg import BLUE, VARIABLES, new_figure, svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn() -> str:
    """A figure with a line, a clipped path and a hostile text."""
    figure = new_figure(200, 100)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=BLUE, marker="o")
    axes.set_title("</svg><script>1 --> $x^2$ 猫", color=INK, parse_math=False, fontweight="bold")
    return svg(figure, "one", "A <title>", "what & why")


def test_it_is_one_element_with_a_name_that_is_read(drawn: str) -> None:
    root = ElementTree.fromstring(drawn)
    assert root.tag == f"{SVG}svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "one-title one-desc"
    assert [root.findtext(f"{SVG}{part}") for part in ("title", "desc")] == ["A <title>", "what & why"]
    assert root.attrib["viewBox"] == "0 0 200 100"


def test_text_stays_text_in_the_fonts_of_the_page(drawn: str) -> None:
    texts = list(ElementTree.fromstring(drawn).iter(f"{SVG}text"))
    assert "</svg><script>1 --> $x^2$ 猫" in [text.text for text in texts]
    assert "<script" not in drawn
    assert all("var(--sans)" in text.attrib["style"] for text in texts)
    assert "DejaVu" not in drawn


def test_the_colours_are_those_of_the_page(drawn: str) -> None:
    assert "var(--blue)" in drawn
    assert "var(--ink)" in drawn
    assert [colour for colour in VARIABLES if re.search(f"(fill|stroke): {colour}", drawn, re.IGNORECASE)] == []


def test_identifiers_differ_from_those_of_another_picture(drawn: str) -> None:
    identifiers = re.findall(r'(?<=\s)id="([^"]*)"', drawn)
    assert identifiers
    assert all(identifier.startswith("one-") for identifier in identifiers)
    wanted = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', drawn))
    assert {one or other for one, other in wanted} <= set(identifiers)


def test_the_same_figure_is_the_same_text(drawn: str) -> None:
    def again() -> str:
        figure = new_figure(100, 50)
        figure.add_subplot().plot([0, 1], [1, 0])
        return svg(figure, "x", "t", "d")

    assert again() == again()
