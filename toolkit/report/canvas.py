"""What the pictures share: a figure without global state, one style, text in any script, atomic writing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.files import atomic_path
from toolkit.report.names import distinct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

INK, MUTED, RULE, EMPTY = "#222222", "#666666", "#d9d9d9", "#eeeeee"
DPI = 160
MARGIN_INCHES = 0.35
HEAD_INCHES = 1.0
"""Room above the axes for title and subtitle."""
LABEL_LENGTH = 20


def new_figure(width: float, height: float) -> Figure:
    """Return a white figure of this size in inches, drawn by Agg; pyplot and its list of open figures are not involved.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    missing = f"pictures need matplotlib: {install_hint('train')}"
    figure: Figure = import_optional("matplotlib.figure", missing).Figure(figsize=(width, height), facecolor="white")
    import_optional("matplotlib.backends.backend_agg", missing).FigureCanvasAgg(figure)
    side, top, bottom = MARGIN_INCHES / width, HEAD_INCHES / height, 0.2 / height
    figure.set_layout_engine("constrained", rect=(side, bottom, 1 - 2 * side, 1 - top - bottom))
    return figure


def head(figure: Figure, title: str, subtitle: str) -> None:
    """Write title and subtitle at the upper left."""
    width, height = figure.get_size_inches()
    left = MARGIN_INCHES / width
    figure.text(left, 1 - 0.30 / height, title, fontsize=15, fontweight="bold", color=INK, va="top", parse_math=False)
    figure.text(
        left,
        1 - 0.62 / height,
        drawable([subtitle], length=200)[0],
        fontsize=10.5,
        color=MUTED,
        va="top",
        parse_math=False,
    )


def style(axes: Axes) -> None:
    """Leave what a reader needs: no box, quiet ticks."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(length=0, colors=INK, labelsize=9.5)
    axes.set_axisbelow(True)


def whole_numbers() -> MaxNLocator:
    """Return a locator of integer ticks."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=10, min_n_ticks=1)


def drawable(labels: Sequence[str], length: int = LABEL_LENGTH) -> list[str]:
    """Return labels that the font can draw.

    Long ones are cut, and one with missing glyphs becomes its position, ``#7``.
    """
    from matplotlib import font_manager

    glyphs = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()
    return [
        f"#{position}" if any(ord(character) not in glyphs for character in " ".join(label.split())) else short
        for position, (label, short) in enumerate(zip(labels, distinct(labels, length), strict=True))
    ]


def save(figure: Figure, target: Path) -> None:
    """Write a PNG atomically; the same figure gives the same bytes.

    Raises:
        FileWriteError: it cannot be written.
    """
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
