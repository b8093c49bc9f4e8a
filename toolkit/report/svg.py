"""A matplotlib figure as SVG that stands in a page: its colours are the page's, its text stays text, its title is read.

The pictures are drawn in the palette below; each of its colours becomes a variable of the page's style sheet, which
has another value in the dark.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING

from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.printable import printable
from toolkit.report.canvas import EMPTY, INK, MUTED, RULE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_MATPLOTLIB = f"pictures need matplotlib: {install_hint('train')}"
SURFACE, PAGE = "#ffffff", "#f7f7f5"
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7"
"""Told apart with every kind of colour vision (Okabe and Ito 2008)."""
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    EMPTY: "empty",
    SURFACE: "surface",
    PAGE: "page",
    BLUE: "blue",
    VERMILION: "vermilion",
    GREEN: "green",
    ORANGE: "orange",
    SKY: "sky",
    PURPLE: "purple",
}
"""Colour to the name of its variable."""
PIXELS_PER_INCH = 72
"""A unit of the drawing is a pixel of the page where the page gives it its own width."""
_ID = re.compile(r'(?<=\s)id="([^"]*)"')


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in pixels, laid out tightly.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure: Figure = import_optional("matplotlib.figure", NO_MATPLOTLIB).Figure(
        figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), facecolor="none"
    )
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.02)
    return figure


def svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return a figure as an ``svg`` element.

    Args:
        figure: drawn in the palette.
        name: what its identifiers begin with: letters and digits, another one for each picture of a page.
        title: what a screen reader calls it.
        description: what it shows, for those who do not see it.
    """
    import matplotlib

    target = io.StringIO()
    # Text as text, in the fonts of the reader; the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The reader's fonts have what the one that is measured with lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return in_page(target.getvalue(), name, title, description)


def in_page(document: str, name: str, title: str, description: str) -> str:
    """Return the root element of an SVG document, made part of a page (see ``svg``)."""
    from xml.sax.saxutils import escape

    body = document[document.index("<svg") :]
    inner = body[body.index(">") + 1 :]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<!--.*?-->", "", inner, flags=re.DOTALL)
    inner = _own_identifiers(inner, name)
    inner = re.sub(r"((?:fill|stroke): )(#[0-9a-fA-F]{6})", _colour, inner)
    # Matplotlib writes one or the other, depending on its version.
    inner = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", inner)
    inner = re.sub(r"font: ((?:[\w ]+ )?[\d.]+px) [^;\"]*", r"font: \1 var(--sans)", inner)
    inner = re.sub(r' transform="rotate\(-0 [^"]*"', "", inner)
    inner = re.sub(r"\n\s*", "\n", inner)
    box = re.search(r'viewBox="([^"]*)"', body)
    assert box is not None
    width = float(box[1].split()[2])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box[1]}" '
        f'style="max-width:{width:.0f}px" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(printable(title))}</title>'
        f'<desc id="{name}-desc">{escape(printable(description))}</desc>{inner}'
    ).rstrip()


def _colour(match: re.Match[str]) -> str:
    variable = VARIABLES.get(match[2].lower())
    return match[0] if variable is None else f"{match[1]}var(--{variable})"


def _own_identifiers(inner: str, name: str) -> str:
    """Keep the identifiers that something refers to, and make them differ from those of other pictures."""
    wanted = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', inner))
    inner = _ID.sub(lambda match: f'id="{name}-{match[1]}"' if match[1] in wanted else "", inner)
    return re.sub(r'(url\(#|href="#)(?=[^)"]+)', rf"\g<1>{name}-", inner)
