"""Results on a terminal: tables that stay whole at 100 columns, in a pipe and without colours."""

from __future__ import annotations

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
    """Print the comparison as one table, or as two with the same first columns where one is too wide."""
    machine = report.provenance.hardware
    threads = sorted({row.threads for row in report.rows})
    console.print(_text(f"{report.run}: {report.model}", style="bold"))
    console.print(
        _text(f"{machine.processor}, {'/'.join(map(str, threads))} of {machine.cores} cores; data: {report.data}")
    )
    table = bench_table(report)
    whole = _rich(table, ("key", "speed", "model"))
    if Measurement.get(console, console.options.update(width=10_000), whole).maximum <= console.width:
        console.print(whole)
    else:
        console.print(_rich(table, ("key", "speed")))
        console.print(_rich(table, ("key", "model")))
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
            console.print(_rich(section, ("key",)))


def print_parity(report: ParityReport, console: Console) -> None:
    """Print the verdicts on one screen: a table, what was checked of all artifacts, and what failed."""
    verdict = _text(f"{report.run}: parity with {report.reference} ", style="bold")
    verdict.append("passed" if report.passed else "FAILED", style="bold green" if report.passed else "bold red")
    console.print(verdict)
    console.print(_rich(parity_table(report), ("key",)))
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
        console.print(_rich(path_table(bisection), ("key",)))
    if bisection.lacking:
        console.print(
            _text(
                f"{name}: its graph lacks {', '.join(bisection.lacking[:WORST])}"
                + (" and more" if len(bisection.lacking) > WORST else "")
            )
        )


def print_list(table: Table, console: Console) -> None:
    """Print a table whose columns are all of one group; a line becomes two where the console is too narrow."""
    whole = _rich(table, ("key",))
    if Measurement.get(console, console.options.update(width=10_000), whole).maximum <= console.width:
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
        console.print(_rich(table, ("key",)))
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
    console.print(_rich(class_table(evaluation, worst=WORST if many else None), ("key",)))
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
    which = f", first {first.name} ({first.label}, not {first.predicted}?)" if first else ""
    judge = f"to a classifier that is right on {issues.accuracy:.1%}"
    console.print(_text(f"labels that look wrong {judge}: {issues.estimated_wrong} of {issues.looked_at}{which}"))


def _text(content: str, style: str = "") -> Text:
    """Return text that only its style colours: what an engine or a file says may hold anything."""
    return Text(printable_lines(content), style=style)


def _rich(table: Table, groups: tuple[str, ...]) -> RichTable:
    """Build a table of some column groups.

    Cells wrap where a terminal is too narrow: a cut figure would be a wrong figure.
    """
    rich = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="bold")
    shown = [index for index, column in enumerate(table.columns) if column.group in groups]
    for index in shown:
        rich.add_column(table.columns[index].header, justify=table.columns[index].align, overflow="fold")
    for line in table.lines:
        if line.continues and "speed" not in groups:
            continue
        rich.add_row(*_cells(line, table.columns, shown))
    return rich


def _cells(line: Line, columns: tuple[Column, ...], shown: list[int]) -> list[RenderableType]:
    keys = sum(column.group == "key" for column in columns)
    if line.missing is not None:
        noticed = next(index for index in shown if columns[index].notice)
        cells = [line.cells[index] if index < keys else NOT_MEASURED if index == noticed else "" for index in shown]
        return [_text(cell, style="yellow") for cell in cells]
    return [_text("" if line.continues and index < keys else line.cells[index]) for index in shown]
