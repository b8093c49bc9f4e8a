"""Reports as a person sees them: the tables of the commands, in a session of Python and in a notebook."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from typing import Any

from rich.console import Console

from toolkit.printable import printable_lines
from toolkit.report import print_bench, print_parity
from toolkit.report.parity import parity_checks, parity_failures, parity_table
from toolkit.report.tables import Table, bench_table
from toolkit.results import BenchReport, ParityReport

WIDTH = 160
"""Characters of a table that nobody has to wrap."""
MOST_FAILURES = 5
"""Reasons of one artifact; the rest is in the record."""
GOOD, BAD = "\N{CHECK MARK}", "\N{BALLOT X}"


class ShownParity(ParityReport):
    """What ``Run.verify`` returns: a ``ParityReport`` that shows itself as a table."""

    @classmethod
    def of(cls, report: ParityReport) -> ShownParity:
        """Return the same report."""
        return cls.model_construct(**dict(report))

    def __repr__(self) -> str:
        return printed(lambda console: print_parity(self, console))

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        verdict = f"{GOOD} passed" if self.passed else f"{BAD} FAILED"
        lines = [*parity_checks(self)]
        for owner, failures in parity_failures(self):
            lines += [f"{owner}: {failure}" for failure in failures[:MOST_FAILURES]]
        return (
            f"<p><b>{escaped(self.run)}: parity with {escaped(self.reference)} {verdict}</b></p>"
            + table_html(parity_table(self))
            + "".join(f"<div>{escaped(line)}</div>" for line in lines)
        )


class ShownBench(BenchReport):
    """What ``Run.bench`` returns: a ``BenchReport`` that shows itself as a table."""

    @classmethod
    def of(cls, report: BenchReport) -> ShownBench:
        """Return the same report."""
        return cls.model_construct(**dict(report))

    def __repr__(self) -> str:
        return printed(lambda console: print_bench(self, console))

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        machine = self.provenance.hardware.processor
        return f"<p><b>{escaped(self.run)}</b>: {escaped(self.model)}; {escaped(machine)}</p>" + table_html(
            bench_table(self)
        )


def printed(show: Callable[[Console], None]) -> str:
    """Return what is printed to a console without colours."""
    text = io.StringIO()
    show(Console(file=text, width=WIDTH, highlight=False, force_jupyter=False, color_system=None))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip("\n")


def escaped(text: Any) -> str:
    """Return text for HTML, in which nothing of a stranger's names is markup or moves what stands around it."""
    return html.escape(printable_lines(str(text)))


def table_html(table: Table) -> str:
    """Return a table in the colours of the page around it, light or dark."""
    head = "".join(_cell("th", column.header, column.align) for column in table.columns)
    rows = []
    for line in table.lines:
        cells = "".join(
            _cell("td", cell, column.align) for cell, column in zip(line.cells, table.columns, strict=False)
        )
        if line.missing is not None:
            rest = len(table.columns) - len(line.cells)
            cells += f'<td colspan="{rest}" style="text-align:left;padding:2px 8px">{escaped(line.missing)}</td>'
        rows.append(f"<tr>{cells}</tr>")
    style = "border-collapse:collapse;background:transparent;color:inherit;font-size:90%;margin:8px 0"
    return (
        f'<div style="overflow-x:auto"><table style="{style}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(tag: str, content: str, align: str) -> str:
    line = "border-bottom:1px solid rgba(128,128,128,.35);" if tag == "th" else ""
    style = f"text-align:{align};padding:2px 8px;white-space:nowrap;background:transparent;{line}"
    return f'<{tag} style="{style}">{escaped(content)}</{tag}>'
