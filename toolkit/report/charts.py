"""The pictures of a page, each drawn for a wide screen and for a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from toolkit.report import canvas, figures
from toolkit.report.canvas import EMPTY, INK, MUTED, RULE
from toolkit.report.names import distinct
from toolkit.report.pictures import History, draw_accuracy, draw_loss
from toolkit.report.svg import (
    BLUE,
    GREEN,
    ORANGE,
    PAGE,
    PIXELS_PER_INCH,
    PURPLE,
    SKY,
    SURFACE,
    VERMILION,
    new_figure,
    svg,
)
from toolkit.results import BenchRow, CalibrationBin, EndToEnd, Evaluation, Interval, SettingTiming

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 860, 330
"""Pixels: the column of the page on a desk, and on a phone."""
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
COUNTS_UP_TO = 12
"""Most classes for which the confusion matrix says its counts, and on a phone their names."""
RECTANGLES_UP_TO = 25
"""Most classes for which each cell is a shape; a matrix of more is one image."""
NAMES_UP_TO = 60
SMALLEST_NAME = 6.5
"""Pixels: where names of classes would be smaller, their positions stand at the axes."""
CELLS_UP_TO = {True: 290, False: 130}
"""Most cells of a matrix in a row, wide and narrow: more would be smaller than two pixels, and be lost."""
MOST_ROWS_OF_NAMES = 12
"""Above the axes of a trade-off."""
ROW_OF_NAMES = 16.5
"""Pixels from one to the next."""
FONT = 11.5


@dataclass(frozen=True)
class Chart:
    """One picture in both widths, as SVG."""

    wide: str
    narrow: str


@dataclass(frozen=True)
class Point:
    """A model in accuracy against throughput."""

    name: str
    throughput: float
    throughput_interval: Interval
    accuracy: float
    accuracy_interval: Interval | None
    chosen: bool = False
    may_ship: bool = True
    """Whether it is an artifact that passed parity; others are drawn hollow and are in no front."""


def trade_off(points: Sequence[Point], name: str, title: str) -> Chart:
    """Draw accuracy against throughput, the Pareto front of what may be shipped, and both intervals."""
    front = pareto_front([point for point in points if point.may_ship])
    described = f"{len(points)} models. Nothing that may be shipped is both faster and more accurate than " + (
        ", ".join(point.name for point in front) or "none"
    )

    flags = {wide: _flags(points, front, wide) for wide in (True, False)}
    heights = [300 + ROW_OF_NAMES * max(0, max(flag.level for flag in flags[wide]) - 2) for wide in (True, False)]

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.add_subplot()
        _plain(axes)
        axes.grid(color=RULE, linewidth=0.8)
        axes.set_xscale("log")
        for point in points:
            _draw_point(axes, point, point in front)
        if len(front) > 1:
            corners = sorted(front, key=lambda point: point.throughput)
            axes.step(
                [point.throughput for point in corners],
                [100 * point.accuracy for point in corners],
                where="pre",
                color=BLUE,
                linewidth=1.6,
                zorder=2,
            )
        axes.set_xlim(_log_range(points))
        _log_ticks(axes, wide)
        _draw_flags(axes, flags[wide])
        axes.set_xlabel("images per second (logarithmic)", color=MUTED, fontsize=FONT)
        axes.set_ylabel("test accuracy (%)", color=MUTED, fontsize=FONT)

    return _both(draw, (heights[0], heights[1]), name, title, described + ".")


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one beats in one quantity without losing in the other, the slowest first."""
    front = [
        point
        for point in points
        if not any(
            other.throughput >= point.throughput
            and other.accuracy >= point.accuracy
            and (other.throughput, other.accuracy) != (point.throughput, point.accuracy)
            for other in points
        )
    ]
    return sorted(front, key=lambda point: point.throughput)


def latencies(rows: Sequence[BenchRow], name: str, batch_size: int, chosen: str | None) -> Chart:
    """Draw how the times of single calls are distributed: bands of percentiles, and the median as a line."""
    shown = [(row, timing) for row in rows for timing in row.timings if timing.batch_size == batch_size]
    spread = [timing.latency for _, timing in shown]

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.add_subplot()
        _plain(axes)
        axes.grid(axis="x", color=RULE, linewidth=0.8)
        for position, (row, timing) in enumerate(shown):
            _draw_latency(axes, position, timing.latency, BLUE if row.name == chosen else MUTED)
        axes.set_yticks(range(len(shown)), distinct([_row_name(rows, row) for row, _ in shown], 22), parse_math=False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        low = min(latency.p50_seconds for latency in spread)
        high = max(latency.p99_seconds for latency in spread)
        if high > 12 * low:
            axes.set_xscale("log")
            _log_ticks(axes, wide)
        else:
            axes.set_xlim(left=0)
        axes.set_xlabel(
            f"ms per call at batch size {batch_size}" + (" (logarithmic)" if high > 12 * low else ""),
            color=MUTED,
            fontsize=FONT,
        )

    described = "; ".join(
        f"{row.name} on {row.device}: median {figures.milliseconds(timing.latency.p50_seconds)} ms, 95th percentile "
        f"{figures.milliseconds(timing.latency.p95_seconds)} ms, 99th "
        f"{figures.milliseconds(timing.latency.p99_seconds)} ms"
        for row, timing in shown
    )
    height = 62 + 34 * len(shown)
    return _both(draw, (height, height), name, f"Times of single calls at batch size {batch_size}", described)


def sweeps(rows: Sequence[BenchRow], name: str, title: str) -> Chart:
    """Draw the settings of sweeps: throughput against latency, a colour for each row, the tuned settings ringed."""
    swept = [row for row in rows if row.sweep]
    names = distinct([_row_name(swept, row) for row in swept], 22)

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.add_subplot()
        _plain(axes)
        axes.grid(color=RULE, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for position, row in enumerate(swept):
            colour = COLOURS[position % len(COLOURS)]
            edge = sorted(_best_settings(row.sweep), key=lambda setting: setting.latency.p50_seconds)
            times = [1000 * setting.latency.p50_seconds for setting in row.sweep]
            rates = [setting.throughput.median for setting in row.sweep]
            axes.plot(times, rates, "o", color=colour, markersize=4, alpha=0.35, linestyle="none")
            axes.plot(
                [1000 * setting.latency.p50_seconds for setting in edge],
                [setting.throughput.median for setting in edge],
                color=colour,
                linewidth=1.8,
                linestyle=("-", "--", ":")[position // len(COLOURS) % 3],
                marker="o",
                markersize=4.5,
                label=names[position],
            )
            for tuned in row.tuned:
                axes.plot(
                    1000 * tuned.latency_p50_seconds,
                    tuned.images_per_second,
                    "o",
                    markersize=11,
                    markerfacecolor="none",
                    markeredgecolor=colour,
                    markeredgewidth=1.6,
                )
        for axis in (axes.xaxis, axes.yaxis):
            _log_ticks_of(axis, wide)
        _legend(figure, axes, wide)
        axes.set_xlabel("median ms per call (logarithmic)", color=MUTED, fontsize=FONT)
        axes.set_ylabel("images per second (logarithmic)", color=MUTED, fontsize=FONT)

    described = "; ".join(
        f"{row.name} on {row.device}, {tuned.purpose}: batch size {tuned.batch_size}, {tuned.threads} threads, "
        f"{tuned.streams} streams, {figures.number(tuned.images_per_second)} images per second"
        for row in swept
        for tuned in row.tuned
    )
    return _both(draw, (320, 330), name, title, described or "No setting is marked as the best.")


PHASES = {"decode": ORANGE, "resize": SKY, "call": BLUE, "other": MUTED}
"""Part of the way from the bytes of a file to a label, and its colour."""


def where_time_goes(measured: Sequence[tuple[str, EndToEnd]], name: str, title: str) -> Chart:
    """Draw the parts of the time of one image, one bar a row."""

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.add_subplot()
        _plain(axes)
        axes.grid(axis="x", color=RULE, linewidth=0.8)
        for phase, colour in PHASES.items():
            for position, (_, end_to_end) in enumerate(measured):
                left = 0.0
                for part in end_to_end.phases:
                    if part.name == phase:
                        axes.barh(
                            position,
                            1000 * part.seconds_per_image,
                            left=1000 * left,
                            height=0.56,
                            color=colour,
                            edgecolor=SURFACE,
                            linewidth=1,
                            label=phase if position == 0 else None,
                        )
                    left += part.seconds_per_image
        axes.set_yticks(range(len(measured)), distinct([row for row, _ in measured], 22), parse_math=False)
        axes.set_ylim(len(measured) - 0.4, -0.6)
        axes.set_xlabel("ms per image, in one thread", color=MUTED, fontsize=FONT)
        _legend(figure, axes, wide)

    described = "; ".join(
        f"{row}: " + ", ".join(f"{part.name} {figures.percent(part.share)}" for part in end_to_end.phases)
        for row, end_to_end in measured
    )
    height = 88 + 34 * len(measured)
    return _both(draw, (height, height), name, title, described)


def learning(history: History, best: tuple[int, int] | None, name: str) -> Chart:
    """Draw loss and accuracy of all stages over epochs."""

    def draw(figure: Figure, wide: bool) -> None:
        loss, accuracy = figure.subplots(*((1, 2) if wide else (2, 1)))
        draw_loss(loss, history)
        draw_accuracy(accuracy, history, best)
        for axes in (loss, accuracy):
            axes.set_facecolor("none")
            axes.spines["bottom"].set_color(RULE)

    last = len(history.epoch) - 1
    described = (
        f"{last + 1} epochs; after the last one the training loss was {history.train_loss[last]:.3f}, the validation "
        f"loss {history.validation_loss[last]:.3f}, the validation accuracy {history.validation_accuracy[last]:.1%}."
    )
    return _both(draw, (310, 540), name, "Learning curves", described)


def confusion(evaluation: Evaluation, name: str) -> Chart:
    """Draw the confusion matrix: right answers in blue, mistakes in vermilion, by the square root of their share."""
    counts = np.asarray(evaluation.confusion, np.int64).reshape(len(evaluation.classes), -1)
    labels = distinct([score.label for score in evaluation.classes], 16)
    side = float(min(680, max(360, 130 + 38 * len(counts))))

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.add_subplot()
        axes.tick_params(length=0, colors=INK, labelsize=FONT - 1)
        for spine in axes.spines.values():
            spine.set_visible(False)
        _draw_matrix(axes, counts, wide)
        # A name is as high as 0.8 cells; what the names beside the matrix take is not its cells'.
        size = min(FONT - 0.5, 0.8 * ((side if wide else NARROW) - 40) / (len(counts) + 0.48 * max(map(len, labels))))
        named = len(counts) <= NAMES_UP_TO and size >= SMALLEST_NAME
        if named:
            turned = 90 if max(map(len, labels)) > 3 else 0
            axes.set_xticks(range(len(labels)), labels, rotation=turned, fontsize=size, parse_math=False)
            axes.set_yticks(range(len(labels)), labels, fontsize=size, parse_math=False)
        else:
            axes.xaxis.set_major_locator(canvas.whole_numbers())
            axes.yaxis.set_major_locator(canvas.whole_numbers())
        if len(counts) <= (RECTANGLES_UP_TO if wide else COUNTS_UP_TO):
            _write_counts(axes, counts, wide)
        axes.set_xlabel("predicted" + ("" if named else " (position of the class)"), color=MUTED, fontsize=FONT)
        axes.set_ylabel("true" + ("" if named else " (position of the class)"), color=MUTED, fontsize=FONT)

    described = (
        f"{len(counts)} true classes by {len(counts)} predicted ones; {figures.percent(evaluation.top1)} of "
        f"{evaluation.images} images lie on the diagonal. The most frequent mistakes stand in the text."
    )
    return _both(draw, (side, 350), name, "Confusion matrix", described, wide=side + 20)


def calibration(bins: Sequence[CalibrationBin], intervals: Sequence[Interval], name: str) -> Chart:
    """Draw accuracy against confidence, with the images of each bin below."""

    def draw(figure: Figure, wide: bool) -> None:
        curve, count = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1)})
        for axes in (curve, count):
            _plain(axes)
        curve.grid(color=RULE, linewidth=0.8)
        curve.plot((0, 100), (0, 100), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        xs = [100 * each.confidence for each in bins]
        ys = [100 * each.accuracy for each in bins]
        curve.vlines(xs, [100 * i.low for i in intervals], [100 * i.high for i in intervals], color=BLUE, linewidth=1.4)
        curve.plot(xs, ys, "o-", color=BLUE, linewidth=1.6, markersize=5)
        curve.set_ylim(0, 103)
        curve.set_xlim(0, 103)
        curve.set_ylabel("right (%)", color=MUTED, fontsize=FONT)
        count.bar(
            [50 * (each.low + each.high) for each in bins],
            [each.images for each in bins],
            width=[100 * (each.high - each.low) * 0.86 for each in bins],
            color=MUTED,
        )
        count.set_ylabel("images", color=MUTED, fontsize=FONT)
        count.yaxis.set_major_locator(canvas.whole_numbers())
        count.locator_params(axis="y", nbins=2)
        count.set_xlabel("probability of the predicted class (%)", color=MUTED, fontsize=FONT)

    described = "; ".join(f"said {each.confidence:.0%}, right {each.accuracy:.0%} of {each.images}" for each in bins)
    return _both(draw, (400, 380), name, "Calibration curve", described, wide=460)


Draw = Callable[["Figure", bool], None]


def _both(
    draw: Draw, heights: tuple[float, float], name: str, title: str, description: str, *, wide: float = WIDE
) -> Chart:
    drawn = []
    for width, height, suffix in ((wide, heights[0], "w"), (NARROW, heights[1], "n")):
        figure = new_figure(width, height)
        draw(figure, suffix == "w")
        drawn.append(svg(figure, name + suffix, title, description))
    return Chart(*drawn)


def _plain(axes: Axes) -> None:
    """Leave what a reader needs: no box, quiet ticks."""
    canvas.style(axes)
    axes.set_facecolor("none")
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, colors=INK, labelsize=FONT - 1)


def _row_name(rows: Sequence[BenchRow], row: BenchRow) -> str:
    """Return a row's name, with its device where there are several."""
    return row.name if len({other.device for other in rows}) == 1 else f"{row.name}, {row.device}"


def _draw_point(axes: Axes, point: Point, on_front: bool) -> None:
    colour = VERMILION if point.chosen else BLUE if on_front else MUTED
    interval, x, y = point.throughput_interval, point.throughput, 100 * point.accuracy
    axes.hlines(y, interval.low, interval.high, color=colour, linewidth=1.4, zorder=3)
    if point.accuracy_interval is not None:
        low, high = 100 * point.accuracy_interval.low, 100 * point.accuracy_interval.high
        axes.vlines(x, low, high, color=colour, linewidth=1.4, alpha=0.55, zorder=3)
    axes.plot(
        x,
        y,
        "o",
        markersize=9 if point.chosen else 7,
        color=colour,
        markerfacecolor=colour if point.may_ship else SURFACE,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        zorder=4,
    )


@dataclass(frozen=True)
class _Flag:
    """Where the name of a point stands above the axes."""

    point: Point
    name: str
    level: int
    """0 is the lowest row of names."""
    centre: float
    """Share of the width of the axes."""


def _flags(points: Sequence[Point], front: Sequence[Point], wide: bool) -> list[_Flag]:
    """Place the names above the axes in as many rows as keep them apart.

    Of so many that the rows would be higher than the axes, only those are named that are on the front or chosen.
    """
    low, high = np.log(_log_range(points))
    pixels = (WIDE if wide else NARROW) - 70
    levels: list[float] = []
    placed = []
    names = distinct([point.name for point in points], 30 if wide else 20)
    for point, name in sorted(zip(points, names, strict=True), key=lambda each: each[0].throughput):
        width = 6.4 * len(name)
        centre = float((np.log(point.throughput) - low) / (high - low)) * pixels
        start = min(max(centre - width / 2, 0), max(pixels - width, 0))
        level = next((index for index, end in enumerate(levels) if end + 8 < start), len(levels))
        levels[level : level + 1] = [start + width]
        placed.append(_Flag(point, name, level, (start + width / 2) / pixels))
    notable = [point for point in points if point.chosen or point in front]
    crowded = len(levels) > MOST_ROWS_OF_NAMES and len(notable) < len(points)
    return _flags(notable, front, wide) if crowded and notable else placed


def _draw_flags(axes: Axes, flags: Sequence[_Flag]) -> None:
    """Write each name above the axes, with a line down to its point."""
    from matplotlib.transforms import ScaledTranslation

    inches = axes.figure.dpi_scale_trans
    # The highest first: a name lies above the lines that lead past it.
    for flag in sorted(flags, key=lambda each: -each.level):
        point = flag.point
        axes.annotate(
            flag.name,
            (point.throughput, 100 * point.accuracy),
            xytext=(flag.centre, 1.0),
            textcoords=axes.transAxes + ScaledTranslation(0, (8 + ROW_OF_NAMES * flag.level) / PIXELS_PER_INCH, inches),
            ha="center",
            va="bottom",
            fontsize=FONT - 1,
            color=VERMILION if point.chosen else INK,
            fontweight="bold" if point.chosen else "normal",
            parse_math=False,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 5},
            bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 1.2},
            zorder=1,
        )


def _log_range(points: Sequence[Point]) -> tuple[float, float]:
    """Return what the axis shows: all intervals.

    Of one that reaches far down only the upper part: a few rounds may have stood still.
    """
    low = min(max(point.throughput_interval.low, point.throughput / 4) for point in points)
    high = max(min(point.throughput_interval.high, point.throughput * 4) for point in points)
    return low / 1.35, high * 1.35


def _log_ticks(axes: Axes, wide: bool) -> None:
    _log_ticks_of(axes.xaxis, wide)


def _log_ticks_of(axis: Any, wide: bool) -> None:
    """Put 1, 2 and 5 of each power of ten, or 1 alone where there are many, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = float(np.log10(high / low)) if low > 0 else 1.0
    steps: tuple[float, ...] = (1.0, 2.0, 5.0) if decades < (3 if wide else 1.7) else (1.0,)
    if decades < 0.5:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)


def _draw_latency(axes: Axes, position: int, latency: Any, colour: str) -> None:
    whole = latency.percentiles_seconds
    if len(whole) == 101:
        for low, high, thickness in ((1, 99, 3), (5, 95, 9), (25, 75, 17)):
            axes.hlines(
                position,
                1000 * whole[low],
                1000 * whole[high],
                color=colour,
                linewidth=thickness,
                alpha=0.30,
                zorder=2,
            )
    else:
        for high, thickness in ((latency.p99_seconds, 3), (latency.p95_seconds, 9)):
            axes.hlines(
                position, 1000 * latency.p50_seconds, 1000 * high, color=colour, linewidth=thickness, alpha=0.30
            )
    axes.vlines(1000 * latency.p50_seconds, position - 0.3, position + 0.3, color=colour, linewidth=2.6, zorder=3)


def _best_settings(settings: Sequence[SettingTiming]) -> list[SettingTiming]:
    """Return the settings that no other one beats in throughput without losing in latency."""
    return [
        one
        for one in settings
        if not any(
            other.throughput.median >= one.throughput.median
            and other.latency.p50_seconds <= one.latency.p50_seconds
            and other is not one
            for other in settings
        )
    ]


def _legend(figure: Figure, axes: Axes, wide: bool) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        legend = figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=len(labels) if wide else 2,
            frameon=False,
            fontsize=FONT - 1,
            labelcolor=INK,
            handlelength=1.1,
            columnspacing=1.4,
            borderaxespad=0.2,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)


def confusion_note(classes: int) -> str:
    """Return what must be known to read the confusion matrix of so many classes; nothing for a few."""
    if classes <= COUNTS_UP_TO:
        return ""
    positions = "Where classes are not named, numbers count them from 0 in the order of the table of classes."
    if classes <= min(CELLS_UP_TO.values()):
        return positions
    return f"{positions} Where several classes share a point, it shows the largest share among them."


def _draw_matrix(axes: Axes, counts: npt.NDArray[np.int64], wide: bool) -> None:
    from matplotlib.colors import to_rgb

    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    right = np.eye(len(counts), dtype=bool)
    cells = np.zeros((*counts.shape, 4))
    cells[..., :3] = np.where(right[..., None], to_rgb(BLUE), to_rgb(VERMILION))
    # The square root keeps a single mistake among many images visible.
    cells[..., 3] = np.sqrt(shares)
    if len(counts) <= RECTANGLES_UP_TO:
        empty = counts == 0
        cells[empty] = (*to_rgb(EMPTY), 0.55)
        edges = np.arange(len(counts) + 1) - 0.5
        axes.pcolormesh(edges, edges, cells, edgecolors=SURFACE, linewidth=1.5)
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.set_aspect("equal")
    else:
        block = -(-len(counts) // CELLS_UP_TO[wide])
        pooled = (255 * _pooled(cells, block)).astype(np.uint8)
        end = block * len(pooled) - 0.5
        axes.imshow(pooled, interpolation="none", extent=(-0.5, end, end, -0.5))
        axes.set_xlim(-0.5, len(counts) - 0.5)
        axes.set_ylim(len(counts) - 0.5, -0.5)
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(RULE)


def _pooled(cells: npt.NDArray[np.float64], block: int) -> npt.NDArray[np.float64]:
    """Return blocks of cells as one cell each, that of the largest share; a mistake stays dark enough to be seen.

    Args:
        cells: red, green, blue and the share's root, ``[n, n, 4]``.
        block: cells in a row and in a column of a block; 1 changes nothing.
    """
    if block == 1:
        return cells
    padding = -len(cells) % block
    padded = np.pad(cells, ((0, padding), (0, padding), (0, 0)))
    size = len(padded) // block
    blocks = padded.reshape(size, block, size, block, 4).swapaxes(1, 2).reshape(size, size, block * block, 4)
    largest = blocks[..., 3].argmax(axis=2)
    found: npt.NDArray[np.float64] = np.take_along_axis(blocks, largest[..., None, None], axis=2)[:, :, 0]
    found[..., 3] = np.where(found[..., 3] > 0, np.maximum(found[..., 3], 0.4), 0)
    return found


def _write_counts(axes: Axes, counts: npt.NDArray[np.int64], wide: bool) -> None:
    totals = counts.sum(axis=1)
    size = FONT - 0.5 if wide and len(counts) <= COUNTS_UP_TO else 8.5
    for true, predicted in np.ndindex(*counts.shape):
        if count := counts[true, predicted]:
            strong = true == predicted and count / totals[true] > 0.45
            axes.text(
                predicted,
                true,
                str(count),
                ha="center",
                va="center",
                fontsize=size,
                color="white" if strong else INK,
            )
