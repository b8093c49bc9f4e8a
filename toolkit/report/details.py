"""The tables behind the first one: classes, mistakes, settings of sweeps, flips, duplicates."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.report import figures
from toolkit.report.records import RunRecords
from toolkit.report.tables import Column, Line, Table
from toolkit.results import BenchRow, ParityReport, ReviewedImage


def class_table(records: RunRecords) -> Table | None:
    """Return images of each split, precision and recall of each class; None where neither is known."""
    splits = _class_images(records)
    scores = records.evaluation.classes if records.evaluation else ()
    if not splits and not scores:
        return None
    columns = [Column("class", "left"), *(Column(f"{split} images") for split in splits)]
    if not splits:
        columns.append(Column("test images"))
    if scores:
        columns += [Column("precision"), Column("recall")]
    lines = []
    for index, label in enumerate(records.labels):
        cells = [label, *(str(counts[index]) for counts in splits.values())]
        if scores:
            score = scores[index]
            if not splits:
                cells.append(str(score.support))
            cells += [figures.percent(score.precision), figures.percent(score.recall)]
        lines.append(Line(tuple(cells)))
    return Table(tuple(columns), tuple(lines))


def _class_images(records: RunRecords) -> dict[str, tuple[int, ...]]:
    """Return images of each class in each split, for splits that know all classes."""
    found: dict[str, tuple[int, ...]] = {}
    if records.record is not None:
        found = {name: split.per_class for name, split in records.record.data.splits.items()}
    elif records.review is not None:
        found = {str(name): counts for name, counts in records.review.class_images.items()}
    return {name: counts for name, counts in found.items() if len(counts) == len(records.labels)}


def settings_table(rows: Sequence[BenchRow]) -> Table:
    """Return all settings of all sweeps, with what each is the best for."""
    columns = (
        Column("model", "left"),
        Column("device", "left"),
        *map(Column, ("batch", "threads", "streams", "img/s [95%]", "p50 ms", "p95 ms")),
        Column("best for", "left"),
    )
    lines = []
    for row in rows:
        best: dict[tuple[int, int, int], list[str]] = {}
        for tuned in row.tuned:
            best.setdefault((tuned.batch_size, tuned.threads, tuned.streams), []).append(tuned.purpose)
        for one in row.sweep:
            key = (one.batch_size, one.threads, one.streams)
            times = map(figures.milliseconds, (one.latency.p50_seconds, one.latency.p95_seconds))
            cells = (row.name, row.device, *map(str, key), figures.estimate(one.throughput), *times)
            lines.append(Line((*cells, " and ".join(best.get(key, [])))))
    return Table(columns, tuple(lines))


def flip_table(report: ParityReport, most: int) -> Table:
    """Return images whose most probable class differs between artifact and reference, at most so many."""
    columns = (
        Column("model", "left"),
        Column("image", "left"),
        Column("true", "left"),
        Column("PyTorch says", "left"),
        Column("artifact says", "left"),
        Column("margin"),
        Column("explained by the tolerance", "left"),
    )
    lines = [
        Line(
            (
                artifact.artifact,
                flip.input,
                flip.true_label or figures.NONE,
                flip.reference_label,
                flip.artifact_label,
                figures.number(flip.reference_margin),
                "no" if flip.counted else "yes",
            )
        )
        for artifact in report.artifacts
        for flip in artifact.flips
    ]
    return Table(columns, tuple(lines[:most]))


def place(image: ReviewedImage) -> str:
    """Say where an image is: its split, where its name does not say that already, and its name."""
    return image.name if image.name.startswith(f"{image.split}/") else f"{image.split}: {image.name}"


def mistake_table(images: Sequence[ReviewedImage]) -> Table:
    """Return images with true and predicted label, probability and file."""
    columns = (Column("true", "left"), Column("predicted", "left"), Column("probability"), Column("file", "left"))
    return Table(
        columns,
        tuple(Line((i.label, i.predicted, figures.percent(i.probability), place(i))) for i in images),
    )


def suspect_table(images: Sequence[ReviewedImage]) -> Table:
    """Return images whose label is probably wrong, with what they look like and how probable either is."""
    columns = (
        Column("label", "left"),
        Column("looks like", "left"),
        Column("probability"),
        Column("of its label"),
        Column("file", "left"),
    )
    lines = [
        Line(
            (
                image.label,
                image.predicted,
                figures.percent(image.probability),
                figures.percent(image.label_probability),
                place(image),
            )
        )
        for image in images
    ]
    return Table(columns, tuple(lines))


def duplicate_table(records: RunRecords, most: int) -> Table | None:
    """Return groups of duplicates, at most so many; None where there are none."""
    found = records.record.data.duplicates if records.record else None
    if found is None or not found.groups:
        return None
    lines = [
        Line(
            (
                "the same bytes" if group.exact else "the same picture",
                ", ".join(dict.fromkeys(image.split for image in group.images)),
                ", ".join(dict.fromkeys(image.label for image in group.images)),
                ", ".join(image.name for image in group.images),
            )
        )
        for group in found.groups[:most]
    ]
    heads = ("what they share", "splits", "labels", "files")
    return Table(tuple(Column(head, "left") for head in heads), tuple(lines))
