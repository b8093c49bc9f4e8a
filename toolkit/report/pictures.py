"""Learning curves and the confusion matrix as PNG files."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from toolkit.errors import RunError
from toolkit.files import read_text
from toolkit.report import canvas, figures
from toolkit.report.canvas import EMPTY, INK, MUTED, RULE
from toolkit.results import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALIDATION = BLUE, VERMILION = "#0072B2", "#D55E00"
"""Blue and vermilion: told apart with every kind of colour vision (Okabe and Ito 2008)."""
COUNTS_UP_TO = 20
"""Most classes for which numbers are written into the cells."""
LABELS_UP_TO = 120
"""Most classes for which every class is named at the axes."""


@dataclass
class History:
    """``history.csv`` by column."""

    position: list[int] = field(default_factory=list)
    """Of the epoch on the axis, through all stages: 1 is the first."""
    stage: list[int] = field(default_factory=list)
    epoch: list[int] = field(default_factory=list)
    """Of its stage: 1 is the first."""
    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)


def learning_curves(history_csv: Path, target: Path, *, best: tuple[int, int]) -> None:
    """Draw loss and accuracy of all stages over epochs.

    Args:
        history_csv: what ``toolkit finetune`` writes, one line per epoch.
        target: PNG file to write.
        best: stage and epoch whose weights were kept, as the run's record says; they are ringed.

    Raises:
        RunError: the history is missing or malformed, or has no such epoch.
        MissingDependencyError: matplotlib is not installed.
        FileWriteError: the picture cannot be written.
    """
    history = read_history(history_csv)
    figure = canvas.new_figure(10.5, 4.7)
    canvas.head(figure, "Learning curves", f"{history_csv.resolve().parent.name}: {_stages(history)}")
    loss, accuracy = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    _require_epoch(history, best, history_csv)
    draw_loss(loss, history)
    draw_accuracy(accuracy, history, best)
    canvas.save(figure, target)


def draw_loss(axes: Axes, history: History) -> None:
    """Draw the loss of training and validation over epochs."""
    _curves(axes, history, history.train_loss, history.validation_loss, "Loss")


def draw_accuracy(axes: Axes, history: History, best: tuple[int, int] | None) -> None:
    """Draw the accuracy of training and validation over epochs; the epoch whose weights were kept is ringed.

    Args:
        axes: to draw into.
        history: what ``read_history`` returned.
        best: stage and epoch whose weights were kept; None, or one that is not in the history, rings none.
    """
    _curves(axes, history, _percent(history.train_accuracy), _percent(history.validation_accuracy), "Accuracy (%)")
    epochs = list(zip(history.stage, history.epoch, strict=True))
    if best in epochs:
        _mark_best(axes, history, epochs.index(best))


def confusion_picture(evaluation: Evaluation, target: Path) -> None:
    """Draw the confusion matrix: rows are true classes, columns predicted ones, colour is the share of the true class.

    Args:
        evaluation: any number of classes; counts are written into the cells up to 20 classes, classes are named up to
            120.
        target: PNG file to write.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        FileWriteError: the picture cannot be written.
    """
    counts = np.asarray(evaluation.confusion, np.int64)
    side = min(12.0, max(5.4, 3.0 + 0.45 * len(counts)))
    figure = canvas.new_figure(side + 1.3, side)
    accuracy = figures.percent_interval(evaluation.top1, evaluation.top1_interval)
    canvas.head(figure, "Confusion matrix", f"{accuracy} right on {evaluation.images} {evaluation.split} images")
    axes = figure.add_subplot()
    _matrix(figure, axes, counts)
    _name_classes(axes, [score.label for score in evaluation.classes])
    if len(counts) <= COUNTS_UP_TO:
        _write_counts(axes, counts)
    axes.set_xlabel("Predicted class", color=INK, labelpad=8)
    axes.set_ylabel("True class", color=INK, labelpad=8)
    canvas.save(figure, target)


def read_history(path: Path) -> History:
    """Read ``history.csv``.

    Raises:
        RunError: it is missing, empty or malformed.
    """
    history = History()
    try:
        with io.StringIO(read_text(path)) as file:
            for number, row in enumerate(csv.DictReader(file), start=1):
                history.position.append(number)
                history.stage.append(int(row["stage"]))
                history.epoch.append(int(row["epoch"]))
                for name in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"):
                    getattr(history, name).append(float(row[name]))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): run 'toolkit finetune' first.") from error
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} is not what 'toolkit finetune' writes ({error}): run it again.") from error
    if not history.epoch:
        raise RunError(f"{path} holds no epoch: run 'toolkit finetune' again.")
    return history


def _curves(axes: Axes, history: History, train: list[float], validation: list[float], title: str) -> None:
    canvas.style(axes)
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=_title_pad(history))
    for values, colour, name in ((train, TRAIN, "train"), (validation, VALIDATION, "validation")):
        axes.plot(
            history.position,
            values,
            color=colour,
            linewidth=2,
            marker="o",
            markersize=4 if len(values) <= 40 else 0,
            label=name,
            clip_on=False,
        )
    _name_lines(axes, history, {"train": (train, TRAIN), "validation": (validation, VALIDATION)})
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_xlabel("Epoch", color=INK)
    axes.set_xlim(0.5, history.position[-1] + 0.5)
    axes.xaxis.set_major_locator(canvas.whole_numbers())
    names = dict(zip(history.position, history.epoch, strict=True))
    axes.xaxis.set_major_formatter(lambda position, _: str(names.get(round(position), "")))
    _mark_stages(axes, history)


def _name_lines(axes: Axes, history: History, lines: dict[str, tuple[list[float], str]]) -> None:
    """Write each line's name at its end, apart from each other: nobody has to match a legend with colours."""
    ends = {name: _last_finite(values) for name, (values, _) in lines.items()}
    known = sorted((end, name) for name, end in ends.items() if end is not None)
    if not known:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=MUTED)
        return
    low, high = axes.get_ylim()
    apart = 0.07 * (high - low)
    heights = [end for end, _ in known]
    if len(known) == 2 and heights[1] - heights[0] < apart:
        middle = sum(heights) / 2
        heights = [middle - apart / 2, middle + apart / 2]
    for height, (_, name) in zip(heights, known, strict=True):
        axes.annotate(
            name,
            (history.position[-1], height),
            xytext=(12, 0),
            textcoords="offset points",
            va="center",
            color=lines[name][1],
            fontsize=9.5,
            fontweight="bold",
            annotation_clip=False,
        )


def _last_finite(values: list[float]) -> float | None:
    return next((value for value in reversed(values) if np.isfinite(value)), None)


def _mark_stages(axes: Axes, history: History) -> None:
    """Draw a line where the second stage begins and name the stages above the axes."""
    for stage in sorted(set(history.stage)):
        positions = [position for position, of in zip(history.position, history.stage, strict=True) if of == stage]
        if positions[0] > 1:
            axes.axvline(positions[0] - 0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        if len(set(history.stage)) > 1:
            axes.text(
                (positions[0] + positions[-1]) / 2,
                1.015,
                f"stage {stage}",
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=9,
                color=MUTED,
            )


def _require_epoch(history: History, epoch: tuple[int, int], path: Path) -> None:
    """Refuse an epoch, given by stage and number, that is not in the history."""
    if epoch not in zip(history.stage, history.epoch, strict=True):
        raise RunError(
            f"{path} has no stage {epoch[0]} epoch {epoch[1]}, whose weights were kept: run 'toolkit finetune' again."
        )


def _mark_best(axes: Axes, history: History, best: int) -> None:
    """Ring the validation accuracy of the epoch whose weights were kept."""
    accuracy = 100 * history.validation_accuracy[best]
    axes.plot(
        history.position[best],
        accuracy,
        "o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=VALIDATION,
        markeredgewidth=1.6,
        clip_on=False,
    )
    axes.set_title(
        f"best {accuracy:.1f}%, stage {history.stage[best]} epoch {history.epoch[best]}",
        loc="right",
        fontsize=9.5,
        color=VALIDATION,
        pad=_title_pad(history),
    )


def _title_pad(history: History) -> float:
    """Return points between axes and title: with two stages their names stand in between."""
    return 22.0 if len(set(history.stage)) > 1 else 8.0


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]


def _stages(history: History) -> str:
    counts = {stage: history.stage.count(stage) for stage in sorted(set(history.stage))}
    return ", ".join(
        f"{count} {'epoch' if count == 1 else 'epochs'} of stage {stage}" for stage, count in counts.items()
    )


def _matrix(figure: Figure, axes: Axes, counts: npt.NDArray[np.int64]) -> None:
    """Draw right answers in one hue and mistakes in another, which has its own scale."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    right = np.eye(len(counts), dtype=bool)
    top = _scale_end(shares[~right])
    axes.set_facecolor(EMPTY)
    for mask, colour, end, name in ((~right, VERMILION, top, "mistaken"), (right, BLUE, 100.0, "right")):
        ramp = LinearSegmentedColormap.from_list(name, ["white", colour])
        # The square root keeps a single mistake among many images visible.
        norm = PowerNorm(0.5, vmin=0, vmax=end)
        image = axes.imshow(
            np.ma.masked_where(~mask | np.isnan(shares), shares), cmap=ramp, norm=norm, interpolation="nearest"
        )
        bar = figure.colorbar(
            image, ax=axes, shrink=0.6, aspect=28, pad=0.02, ticks=[0, end / 20, end / 5, end / 2, end], format=_tick
        )
        bar.set_label(f"{name} (% of the true class)", color=INK, fontsize=9.5)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=9, colors=INK)


def _scale_end(mistakes: npt.NDArray[np.float64]) -> float:
    """Return the next of 5, 10, 20, 50, 100 percent above every mistake: pictures of similar models share a scale."""
    largest = float(np.nanmax(mistakes)) if np.isfinite(mistakes).any() else 0.0
    return next(end for end in (5.0, 10.0, 20.0, 50.0, 100.0) if largest <= end)


def _tick(value: float, position: int | None = None) -> str:
    del position
    return f"{value:g}"


def _name_classes(axes: Axes, labels: list[str]) -> None:
    count = len(labels)
    axes.tick_params(which="both", length=0, colors=INK)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    if count > LABELS_UP_TO:
        axes.xaxis.set_major_locator(canvas.whole_numbers())
        axes.yaxis.set_major_locator(canvas.whole_numbers())
        return
    size = 10.0 if count <= COUNTS_UP_TO else max(4.5, min(9.0, 560 / count))
    names = canvas.drawable(labels)
    long = max(map(len, names)) > 3
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=RULE, linewidth=0.6 if count <= COUNTS_UP_TO else 0.25)
    axes.set_xticks(range(count), names, rotation=90 if long else 0, fontsize=size, parse_math=False)
    axes.set_yticks(range(count), names, fontsize=size, parse_math=False)


def _write_counts(axes: Axes, counts: npt.NDArray[np.int64]) -> None:
    totals = counts.sum(axis=1)
    size = 10.0 if len(counts) <= 12 else 7.5
    for true, predicted in np.ndindex(*counts.shape):
        if count := counts[true, predicted]:
            # Only a strong blue is dark enough for white; on every shade of vermilion the ink has more contrast.
            strong = true == predicted and count / totals[true] > 0.65
            axes.text(
                predicted, true, str(count), ha="center", va="center", fontsize=size, color="white" if strong else INK
            )
