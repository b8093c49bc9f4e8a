"""``report.html``: one file with everything in it, that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.dependencies import import_optional, why_not
from toolkit.distribution import install_hint
from toolkit.printable import printable, printable_lines
from toolkit.report.names import middle
from toolkit.report.records import RunRecords
from toolkit.report.run_view import RunView
from toolkit.report.runs_view import RunsView
from toolkit.report.svg import NO_MATPLOTLIB
from toolkit.report.tables import Line, Table

TEMPLATES = Path(__file__).with_name("templates")
NO_JINJA2 = f"the page needs Jinja2: {install_hint('train')}"


def why_no_page() -> str | None:
    """Say in one sentence why no page can be made; None if it can."""
    for name, missing in (("jinja2", NO_JINJA2), ("matplotlib", NO_MATPLOTLIB)):
        if (reason := why_not(name, missing)) is not None:
            return f"report.html is not written, {reason}."
    return None


def run_page(records: RunRecords) -> str:
    """Return the page of one run.

    Raises:
        MissingDependencyError: Jinja2 or matplotlib is not installed.
    """
    return _render("run.html", {"run": RunView(records)})


def runs_page(runs: Sequence[RunRecords], links: Sequence[str], left_out: Sequence[str] = ()) -> str:
    """Return the page that shows several runs side by side.

    Args:
        runs: at least one.
        links: where the page of each run is, relative to this page; empty for a run that has none.
        left_out: what is not shown, and why, a sentence each.

    Raises:
        MissingDependencyError: Jinja2 or matplotlib is not installed.
    """
    return _render("runs.html", {"runs": RunsView(runs, links, left_out)})


def _render(template: str, context: Mapping[str, Any]) -> str:
    jinja2 = import_optional("jinja2", NO_JINJA2)
    import_optional("matplotlib", NO_MATPLOTLIB)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(lines=_lines, whole_rows=whole_rows, middle=middle)
    environment.globals["raw"] = _raw
    text: str = environment.get_template(template).render(context)
    return text


def _shown(value: object) -> object:
    """Return what is written for a value: of a text of somebody else nothing reorders or hides what stands around it.

    Jinja2 escapes it afterwards. What this package has made itself is marked as such and stays.
    """
    return printable(value) if type(value) is str else value


def _lines(text: str) -> object:
    """Return a text of several lines as it is shown, escaped."""
    from markupsafe import escape

    return escape(printable_lines(text))


def _raw(text: str) -> object:
    """Mark what this package has made itself: drawings, the style sheet and the script."""
    from markupsafe import Markup

    return Markup(text)


def whole_rows(table: Table) -> Table:
    """Return a table in which every line says all, so that it can be sorted: what a row says once is repeated."""
    lines: list[Line] = []
    for line in table.lines:
        if line.continues and lines:
            before = lines[-1].cells
            line = replace(line, cells=tuple(own or other for own, other in zip(line.cells, before, strict=True)))
        lines.append(line)
    return Table(table.columns, tuple(lines))
