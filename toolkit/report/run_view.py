"""What the page of one run shows, in the order in which it shows it; the template says how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from toolkit.compare.metrics import wilson_interval
from toolkit.recipe import last_part
from toolkit.report import charts, details, figures, sentences
from toolkit.report.bench_sections import end_to_end_note, end_to_end_table, reasons
from toolkit.report.charts import Chart, Point
from toolkit.report.parity import parity_checks, parity_failures, parity_table
from toolkit.report.recommendation import Choice
from toolkit.report.records import RunRecords
from toolkit.report.tables import Table, bench_table, cost_table, marks, remarks
from toolkit.report.thumbnails import Thumbnails
from toolkit.results import BenchRow, EndToEnd, ReviewedImage

FIRST_MISTAKES = 12
"""Shown on top, the most confident ones."""
OPEN_PAIRS = 1
"""Pairs of classes whose pictures are shown without a click."""
FIRST_PAIRS = 12
"""Pairs of classes that stand in the page; the others are folded away."""
MOST_PAIRS = 40
"""Without pictures."""
MOST_FLIPS = 100
MOST_GROUPS = 30
"""Of duplicates."""


@dataclass(frozen=True)
class Tile:
    """One answer on top of the page."""

    question: str
    answer: str
    figure: str
    detail: str
    ships: bool = False
    """Whether it names an artifact to ship."""


@dataclass(frozen=True)
class Picture:
    """One image, and what is said of it."""

    source: str | None
    label: str
    predicted: str
    probability: str
    file: str


@dataclass(frozen=True)
class Pair:
    """The pictures of one class that were taken for another one."""

    label: str
    predicted: str
    count: int
    pictures: tuple[Picture, ...]
    opened: bool


class RunView:
    """The parts of the page. A part that there are no records for is None or empty, and is left out."""

    def __init__(self, records: RunRecords) -> None:
        """Say of which records."""
        self.records = records
        self.bench = records.bench
        self.recommendation = records.recommendation
        self.thumbnails = Thumbnails(records.folder.path if records.folder else None)

    @property
    def name(self) -> str:
        """The run's."""
        return self.records.name

    @property
    def model(self) -> str:
        """The backbone's own name."""
        name = self.bench.model.split(",")[0] if self.records.record is None else self.records.record.backbone
        return name.rpartition(":")[2]

    @property
    def data(self) -> str:
        """Where the images came from; of a path the last part only, because pages are passed on."""
        return last_part(self.bench.data)

    @property
    def trained(self) -> list[str]:
        """What was fine-tuned and how, as a few short phrases."""
        phrases = [part.strip() for part in self.bench.model.split(",")[1:]]
        record = self.records.record
        if record is not None:
            if (train := record.data.splits.get("train")) is not None:
                phrases.append(f"{train.images:,} training images")
            if record.stages:
                epochs = " + ".join(str(stage.epochs) for stage in record.stages)
                phrases.append(f"{epochs} epochs in {len(record.stages)} stages, {sentences.duration(record.seconds)}")
            phrases.append(f"{record.parameters / 1e6:.1f} million parameters")
        return phrases

    @cached_property
    def tiles(self) -> list[Tile]:
        """How good it is, what to ship, and what that costs."""
        tiles = [self._accuracy_tile()]
        several = len({choice.device for choice in self.recommendation.choices}) > 1
        for choice in self.recommendation.choices:
            where = f" on {sentences.device_name(choice.device)}" if several else ""
            tiles.append(
                Tile(
                    question=f"For {choice.purpose}{where}, ship",
                    answer=choice.chosen.row.name,
                    figure=sentences.figure(choice),
                    detail=_beside(choice),
                    ships=True,
                )
            )
        if self.recommendation.reason is None:
            tiles.append(self._cost_tile())
        else:
            tiles.append(Tile("What to ship", "nothing yet", "", self.recommendation.reason.partition(": ")[2]))
        return tiles

    def _accuracy_tile(self) -> Tile:
        evaluation = self.records.evaluation
        if evaluation is None:
            return Tile("How good it is", "not evaluated", "", "there is no evaluation.json")
        low, high = 100 * evaluation.top1_interval.low, 100 * evaluation.top1_interval.high
        return Tile(
            question="How good it is",
            answer=figures.percent(evaluation.top1),
            figure="right",
            detail=f"on {evaluation.images:,} {evaluation.split} images; 95% interval {low:.1f} to {high:.1f}%",
        )

    def _cost_tile(self) -> Tile:
        chosen = {choice.chosen.row.name: choice.chosen for choice in self.recommendation.choices}
        paired = [(name, candidate.accuracy) for name, candidate in chosen.items() if candidate.accuracy is not None]
        if not paired:
            return Tile("What it costs in accuracy", "not compared", "", "on the same labelled images")
        shown = [accuracy.difference for name, accuracy in paired if chosen[name].loses_accuracy]
        unknown = any(candidate.loss_is_unknown for candidate in chosen.values())
        images = sorted({accuracy.images for _, accuracy in paired})
        return Tile(
            question="What it costs in accuracy",
            answer=f"{100 * min(shown):+.1f}" if shown else "not known" if unknown else "none shown",
            figure="points" if shown else "",
            detail="; ".join(
                f"{name} {figures.points(accuracy.difference, accuracy.interval)} points" for name, accuracy in paired
            )
            + f" beside PyTorch, on {'/'.join(f'{count:,}' for count in images)} test images"
            + (", too few to tell" if unknown else ""),
        )

    @property
    def reasons(self) -> list[str]:
        """The recommendation as sentences."""
        return sentences.recommendation_lines(self.recommendation)

    @property
    def warnings(self) -> list[str]:
        """What must be known before a figure is believed."""
        found = list(self.bench.machine.remarks) if self.bench.machine else []
        if self.records.evaluation is not None:
            found += [f"{remark}." for remark in remarks(self.records.evaluation)]
            if (few := sentences.few_images(self.records.evaluation)) is not None:
                found.append(few)
        if self.records.parity is not None and not self.records.parity.passed:
            failed = [artifact.artifact for artifact in self.records.parity.artifacts if not artifact.passed]
            failed += [check.name for check in self.records.parity.checks if not check.passed]
            found.append(f"Parity failed: {', '.join(failed)}. What failed is never recommended.")
        return found

    @cached_property
    def measured(self) -> list[BenchRow]:
        """The rows with figures."""
        return [row for row in self.bench.rows if row.missing is None and row.timings]

    @property
    def devices(self) -> list[str]:
        """Devices that something was measured on."""
        return list(dict.fromkeys(row.device for row in self.measured))

    @cached_property
    def trade_offs(self) -> list[tuple[str, Chart]]:
        """Accuracy against throughput, by device."""
        return [
            (sentences.device_name(device), charts.trade_off(points, f"tradeoff{place}", "Accuracy and throughput"))
            for place, device in enumerate(self.devices)
            if (points := self._points(device))
        ]

    def _points(self, device: str) -> list[Point]:
        chosen = {choice.chosen.row.name for choice in self.recommendation.choices if choice.device == device}
        return [point for row in self.measured if row.device == device and (point := self.point(row, chosen))]

    def point(self, row: BenchRow, chosen: set[str], name: str | None = None) -> Point | None:
        """Return a row as a point of accuracy against throughput; None where it has no accuracy."""
        if row.test_accuracy is None:
            return None
        best = max(row.timings, key=lambda timing: timing.throughput.median).throughput
        return Point(
            name=name or row.name,
            throughput=best.median,
            throughput_interval=best.interval,
            accuracy=row.test_accuracy,
            accuracy_interval=row.test_accuracy_interval,
            chosen=row.name in chosen,
            may_ship=row in self.recommendation.considered,
        )

    @cached_property
    def latencies(self) -> list[tuple[str, Chart]]:
        """Distributions of the times of single calls at the smallest batch size, by device."""
        drawn = []
        for place, device in enumerate(self.devices):
            rows = [row for row in self.measured if row.device == device]
            size = min(timing.batch_size for row in rows for timing in row.timings)
            choice = self.recommendation.of("latency", device)
            chosen = None if choice is None else choice.chosen.row.name
            drawn.append((sentences.device_name(device), charts.latencies(rows, f"latency{place}", size, chosen)))
        return drawn

    @property
    def table(self) -> Table:
        """The comparison."""
        return bench_table(self.bench)

    @property
    def marks(self) -> list[str]:
        """What the marks behind its figures mean."""
        return marks(self.bench)

    @property
    def picked(self) -> list[tuple[str, str]]:
        """Name and device of the rows that are recommended."""
        return [(choice.chosen.row.name, choice.device) for choice in self.recommendation.choices]

    @property
    def costs(self) -> Table | None:
        """What a row takes of the machine."""
        table = cost_table(self.bench)
        return table if table.lines else None

    @property
    def whys(self) -> list[tuple[str, str]]:
        """What limits each row."""
        return reasons(self.bench)

    @cached_property
    def sweep(self) -> Chart | None:
        """Throughput against latency under all settings."""
        rows = [row for row in self.measured if row.sweep]
        return charts.sweeps(rows, "sweep", "Settings of batch size, threads and streams") if rows else None

    @property
    def settings(self) -> Table:
        """All settings of all sweeps, the best ones marked."""
        return details.settings_table(self.measured)

    @cached_property
    def _end_to_end(self) -> list[tuple[str, EndToEnd]]:
        several = len(self.devices) > 1
        return [
            (f"{row.name}, {row.device}" if several else row.name, row.end_to_end)
            for row in self.measured
            if row.end_to_end is not None
        ]

    @cached_property
    def phases(self) -> Chart | None:
        """Where the time of an image goes."""
        rows = [(name, measured) for name, measured in self._end_to_end if measured.phases]
        return charts.where_time_goes(rows, "phases", "Where the time of an image goes") if rows else None

    @property
    def end_to_end(self) -> Table | None:
        """Throughput from the bytes of files to labels."""
        table = end_to_end_table(self.bench)
        return table if table.lines else None

    @property
    def end_to_end_note(self) -> str:
        """What must be known to read that."""
        return f"{end_to_end_note(self.bench)}."

    @cached_property
    def curves(self) -> Chart | None:
        """Learning curves."""
        record = self.records.record
        best = None if record is None else (record.best_stage, record.best_epoch)
        return charts.learning(self.records.history, best, "learning") if self.records.history else None

    @property
    def kept(self) -> str | None:
        """Which epoch's weights were kept."""
        record = self.records.record
        if record is None:
            return None
        return (
            f"The weights of stage {record.best_stage}, epoch {record.best_epoch} were kept: "
            f"{figures.percent(record.best_validation_accuracy)} of the validation images were right."
        )

    @cached_property
    def confusion(self) -> Chart | None:
        """The confusion matrix."""
        evaluation = self.records.evaluation
        if evaluation is None or not evaluation.confusion:
            return None
        return charts.confusion(evaluation, "confusion")

    @cached_property
    def mistakes(self) -> list[Picture]:
        """The most confident ones."""
        review = self.records.review
        return [] if review is None else [self._picture(image) for image in review.mistakes[:FIRST_MISTAKES]]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Pairs of classes, the most frequent first, each with its pictures, the most confident first."""
        review = self.records.review
        if review is None:
            return []
        pictures: dict[tuple[str, str], list[Picture]] = {}
        for image in review.mistakes:
            pictures.setdefault((image.label, image.predicted), []).append(self._picture(image))
        counts = {(pair.label, pair.predicted): pair.count for pair in review.pairs}
        for pair, shown in pictures.items():
            counts.setdefault(pair, len(shown))
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        return [
            Pair(label, predicted, count, tuple(pictures.get((label, predicted), ())), position < OPEN_PAIRS)
            for position, ((label, predicted), count) in enumerate(ordered)
            if position < MOST_PAIRS or (label, predicted) in pictures
        ]

    @property
    def first_pairs(self) -> int:
        """How many pairs are not folded away: all, where only a few more would be."""
        return FIRST_PAIRS if len(self.pairs) > FIRST_PAIRS + 3 else len(self.pairs)

    @property
    def blocks(self) -> str:
        """How to read a confusion matrix whose classes are too many to be named or to have cells of their own."""
        return "" if self.records.evaluation is None else charts.confusion_note(len(self.records.evaluation.classes))

    @property
    def more_mistakes(self) -> int:
        """Mistakes that the record does not hold."""
        review = self.records.review
        return 0 if review is None else max(0, review.mistakes_in_all - len(review.mistakes))

    @cached_property
    def suspects(self) -> list[Picture]:
        """Images whose label is probably wrong, the most suspect first."""
        review = self.records.review
        if review is None or review.label_issues is None:
            return []
        return [self._picture(image, probable=True) for image in review.label_issues.suspects]

    @property
    def suspected(self) -> str | None:
        """How many labels are taken for wrong, or why nobody looked."""
        review = self.records.review
        if review is None:
            return None
        if review.label_issues is None:
            return f"Labels were not looked at: {review.not_looked or 'the record does not say why'}".rstrip(".") + "."
        return sentences.label_sentence(review.label_issues)

    @property
    def limits(self) -> tuple[str, ...]:
        """What the estimate of wrong labels cannot tell."""
        review = self.records.review
        return () if review is None or review.label_issues is None else review.label_issues.limits

    @cached_property
    def calibration(self) -> Chart | None:
        """Accuracy against confidence."""
        review = self.records.review
        if review is None or not review.calibration:
            return None
        intervals = [wilson_interval(round(each.accuracy * each.images), each.images) for each in review.calibration]
        return charts.calibration(review.calibration, intervals, "calibration")

    @property
    def calibrated(self) -> str | None:
        """How far probabilities and accuracy are apart."""
        return sentences.calibration_sentence(self.records)

    @property
    def flips(self) -> Table | None:
        """Images whose most probable class differs between artifacts; None where nothing was compared."""
        return None if self.records.parity is None else details.flip_table(self.records.parity, MOST_FLIPS)

    @property
    def more_flips(self) -> int:
        """Flips that are not in the table."""
        parity = self.records.parity
        return 0 if parity is None else max(0, sum(len(a.flips) for a in parity.artifacts) - MOST_FLIPS)

    @property
    def verdicts(self) -> list[tuple[bool, str]]:
        """Parity in words: whether it passed, and what was found."""
        parity = self.records.parity
        return [] if parity is None else [(a.passed, sentences.parity_sentence(a)) for a in parity.artifacts]

    @property
    def failures(self) -> list[tuple[str, tuple[str, ...]]]:
        """What failed."""
        return [] if self.records.parity is None else parity_failures(self.records.parity)

    @property
    def parity(self) -> Table | None:
        """Errors of each artifact."""
        return None if self.records.parity is None else parity_table(self.records.parity)

    @property
    def checks(self) -> list[str]:
        """What else was checked."""
        return [] if self.records.parity is None else parity_checks(self.records.parity)

    @property
    def classes(self) -> Table | None:
        """Images and scores of each class."""
        return details.class_table(self.records)

    @property
    def data_lines(self) -> list[str]:
        """What there is to know of the data."""
        return sentences.data_lines(self.records)

    @property
    def duplicates(self) -> Table | None:
        """Groups of duplicates."""
        return details.duplicate_table(self.records, MOST_GROUPS)

    @property
    def machine(self) -> list[str]:
        """Where it was measured."""
        return sentences.machine_lines(self.bench)

    @property
    def unmeasured(self) -> list[str]:
        """What there are no figures for, and why."""
        rows = [f"{row.name} on {row.device}: {row.missing}" for row in self.bench.rows if row.missing is not None]
        return rows + sentences.unmeasured_lines(self.bench)

    @property
    def commands(self) -> list[str]:
        """What makes all of it again."""
        return sentences.again(self.records)

    @property
    def recipe(self) -> str | None:
        """The resolved recipe as TOML, without anybody's paths."""
        return None if self.records.manifest is None else self.records.manifest.origin.recipe

    def _picture(self, image: ReviewedImage, probable: bool = False) -> Picture:
        probability = figures.percent(image.probability)
        if probable:
            probability += f", its label {figures.percent(image.label_probability)}"
        return Picture(
            self.thumbnails.uri(image.thumbnail), image.label, image.predicted, probability, details.place(image)
        )


def _beside(choice: Choice) -> str:
    text = sentences.setting(choice)
    if choice.speedup is not None:
        text += f"; {figures.ratio(choice.speedup)} plain PyTorch"
    if choice.as_fast:
        names = [candidate.row.name for candidate in choice.as_fast]
        others = sentences.listed(names) if len(names) < 3 else f"{len(names)} others"
        text += f"; not told from {others}"
    return text
