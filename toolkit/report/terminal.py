"""Results on a terminal: tables that read well from 80 columns on, in a pipe and without colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from toolkit.printable import printable_lines
from toolkit.report import figures
from toolkit.report.bench_sections import END_TO_END_TITLE, TUNED_TITLE, end_to_end_table, reasons, tuned_table
from toolkit.report.comparison import (
    comparison_failures,
    comparison_headline,
    comparison_notes,
    comparison_tables,
    side_sentence,
)
from toolkit.report.parity import parity_checks, parity_failures, parity_table, path_table
from toolkit.report.tables import Column, Line, Table, bench_table, class_table, headline, marks, most_confused, remarks
from toolkit.results import BenchReport, Bisection, Comparison, Evaluation, ParityReport, Review

MANY_CLASSES = 20
"""Above this many classes only the worst are listed."""
WORST = 10
SHOWN_FAILURES = 5
"""Of one artifact; the rest is in the record."""
NOT_MEASURED = "not measured"


def print_bench(report: BenchReport, console: Console) -> None:
    """Print the comparison as one table, or as several with the same first columns where one is too wide."""
    machine = report.provenance.hardware
    threads = sorted({row.threads for row in report.rows})
    console.print(_text(f"{report.run}: {report.model}", style="bold"))
    console.print(
        _text(f"{machine.processor}, {'/'.join(map(str, threads))} of {machine.cores} cores; data: {report.data}")
    )
    table = bench_table(report)
    _print_table(table, console)
    for line in table.lines:
        if line.missing is not None:
            console.print(_text(f"{' on '.join(line.cells)} is not measured: {line.missing}", style="yellow"))
    for sentence in (*marks(report), *(report.machine.remarks if report.machine else ())):
        console.print(_text(sentence, style="yellow"))
    _print_sections(report, console)


def _print_sections(report: BenchReport, console: Console) -> None:
    for name, reason in reasons(report):
        console.print(_text(f"{name}: {reason}"))
    for title, section in ((END_TO_END_TITLE, end_to_end_table(report)), (TUNED_TITLE, tuned_table(report))):
        if section.lines:
            console.print()
            console.print(_text(title, style="bold"))
            _print_table(section, console)


def print_parity(report: ParityReport, console: Console) -> None:
    """Print the verdicts on one screen: a table, what was checked of all artifacts, and what failed."""
    verdict = _text(f"{report.run}: parity with {report.reference} ", style="bold")
    verdict.append("passed" if report.passed else "FAILED", style="bold green" if report.passed else "bold red")
    console.print(verdict)
    _print_table(parity_table(report), console)
    for line in parity_checks(report):
        console.print(_text(line))
    for owner, failures in parity_failures(report):
        for failure in failures[:SHOWN_FAILURES]:
            console.print(_text(f"{owner}: {failure}", style="red"))
        if len(failures) > SHOWN_FAILURES:
            console.print(
                _text(f"{owner}: and {len(failures) - SHOWN_FAILURES} more reasons, in parity.json", style="red")
            )
    for artifact in report.artifacts:
        if artifact.bisection is not None:
            _print_bisection(artifact.artifact, artifact.bisection, console)


def _print_bisection(name: str, bisection: Bisection, console: Console) -> None:
    if bisection.first is None:
        console.print(
            _text(
                f"{name}: all {bisection.compared} nodes are within {bisection.allowed:g} of the reference",
                style="bold",
            )
        )
    else:
        first = bisection.first
        where = f" of {first.module}" if first.module else ""
        sentence = (
            f"{name}: the first node that diverges is {first.node} ({first.operator}){where}, by {first.error:.3g} "
            "of its largest value"
        )
        console.print(_text(sentence, style="bold"))
        _print_table(path_table(bisection), console)
    if bisection.lacking:
        console.print(
            _text(
                f"{name}: its graph lacks {', '.join(bisection.lacking[:WORST])}"
                + (" and more" if len(bisection.lacking) > WORST else "")
            )
        )


def print_list(table: Table, console: Console) -> None:
    """Print a table whose columns are all of one group; a line becomes two where the console is too narrow."""
    if _fits(whole := _rich(table, list(range(len(table.columns)))), console):
        console.print(whole)
        return
    for line in table.lines:
        named = zip(table.columns, line.cells, strict=True)
        first, *others = [(column.header, cell) for column, cell in named if cell != figures.NONE]
        console.print(_text(first[1], style="bold"))
        facts = _text("; ".join(f"{header} {cell}" for header, cell in others))
        console.print(Padding(facts, (0, 0, 0, 2), expand=False))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print two sides beside each other: what came of it, what failed, the tables, and what a reader must know."""
    style = "" if not comparison.gates else "bold green" if comparison.passed else "bold red"
    console.print(_text(side_sentence("A", comparison.a)))
    console.print(_text(side_sentence("B", comparison.b)))
    console.print(_text(comparison_headline(comparison), style=style or "bold"))
    for failure in comparison_failures(comparison):
        console.print(_text(failure, style="red"))
    for table in comparison_tables(comparison):
        _print_table(table, console)
    for note in comparison_notes(comparison):
        console.print(_text(note))


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the accuracy, the classes (the worst of them where there are many), and the most frequent mistakes."""
    console.print(_text(headline(evaluation), style="bold"))
    for remark in remarks(evaluation):
        console.print(_text(remark, style="yellow"))
    many = len(evaluation.classes) > MANY_CLASSES
    if many:
        console.print(_text(f"the {WORST} classes with the lowest recall, of {len(evaluation.classes)}:"))
    _print_table(class_table(evaluation, worst=WORST if many else None), console)
    if mistakes := most_confused(evaluation):
        console.print(
            _text(
                "most frequent mistakes: "
                + "; ".join(f"{true} taken for {predicted} ({images})" for true, predicted, images in mistakes)
            )
        )


def print_review(review: Review, listed_in: Path, console: Console) -> None:
    """Print how many images a person should look at, and where they are listed."""
    images = sum(review.class_images["test"])
    console.print(_text(f"mistakes: {review.mistakes_in_all} of {images} test images; listed in {listed_in}"))
    if (issues := review.label_issues) is None:
        console.print(_text(f"labels were not looked at: {review.not_looked}"))
        return
    first = next(iter(issues.suspects), None)
    named = f"{first.name} ({first.label}, not {first.predicted}?)" if first else ""
    judge = f"to a classifier that is right on {issues.accuracy:.1%}"
    if issues.estimated_wrong:
        which = f", first {named}" if named else ""
        line = f"labels that look wrong {judge}: at least {issues.estimated_wrong} of {issues.looked_at}{which}"
    else:
        which = f"; the most suspect is {named}" if named else ""
        line = f"labels: none of {issues.looked_at} stands out as wrong {judge}{which}"
    console.print(_text(line))


def _text(content: str, style: str = "") -> Text:
    """Return text that only its style colours: what an engine or a file says may hold anything."""
    return Text(printable_lines(content), style=style)


def _print_table(table: Table, console: Console) -> None:
    """Print a table as one, or as several below each other, each with the columns that name its lines.

    Figures are neither cut nor wrapped: a cut figure would be a wrong figure.
    """
    everything = list(range(len(table.columns)))
    for close in (False, True):
        if _fits(whole := _rich(table, everything, close=close), console):
            console.print(whole)
            return
    for shown in _parts(table, console):
        console.print(_rich(table, shown))


def _fits(rich: RichTable, console: Console) -> bool:
    return Measurement.get(console, console.options.update(width=10_000), rich).maximum <= console.width


def _parts(table: Table, console: Console) -> Iterator[list[int]]:
    """Yield the columns of each table: groups apart, and a group in as many tables as its columns need."""
    everything = list(range(len(table.columns)))
    names = [index for index in everything if all(_names_lines(column) for column in table.columns[: index + 1])]
    rest = [index for index in everything if index not in names]
    part: list[int] = []
    for index in rest:
        group = table.columns[index].group
        first = next(other for other in rest if table.columns[other].group == group)
        # The first column of the speeds, the batch size, is part of what names their lines.
        leading = [*names, *([first] if group == "speed" else [])]
        if part and (table.columns[part[-1]].group != group or not _fits(_rich(table, [*part, index]), console)):
            yield part
            part = []
        part = [*(part or [other for other in leading if other != index]), index]
    yield part or names


def _names_lines(column: Column) -> bool:
    return column.group == "key" and column.align == "left"


def _rich(table: Table, shown: list[int], *, close: bool = False) -> RichTable:
    """Build a table of some columns, close together or not. Names wrap where they are too long, figures never."""
    rich = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=close, header_style="bold")
    for index in shown:
        column = table.columns[index]
        rich.add_column(column.header, justify=column.align, overflow="fold", no_wrap=column.align == "right")
    speeds = any(table.columns[index].group == "speed" for index in shown)
    notices = any(table.columns[index].notice for index in shown)
    for line in table.lines:
        if (line.continues and not speeds) or (line.missing is not None and not notices):
            continue
        rich.add_row(*_cells(line, table.columns, shown))
    return rich


def _cells(line: Line, columns: tuple[Column, ...], shown: list[int]) -> list[RenderableType]:
    keys = sum(column.group == "key" for column in columns)
    if line.missing is not None:
        noticed = next((index for index in shown if columns[index].notice), None)
        cells = [line.cells[index] if index < keys else NOT_MEASURED if index == noticed else "" for index in shown]
        return [_text(cell, style="yellow") for cell in cells]
    return [_text("" if line.continues and index < keys else line.cells[index]) for index in shown]
