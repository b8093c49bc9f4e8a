"""A result for people and for programs: claims, tables, and where they were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.redaction import shown_line
from toolkit import provenance
from toolkit.files import write_text

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Claim:
    """What a benchmark is to show, what was measured, and whether that shows it."""

    text: str
    """What is to be shown."""
    measured: str
    """What was measured, written out."""
    met: bool

    def __str__(self) -> str:
        return f"**{'met' if self.met else 'NOT MET'}**: {self.text}; measured: {self.measured}"


@dataclass(frozen=True)
class Table:
    """A table of a report, all cells written out."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        """Write it in Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Report:
    """A result: what ``finish`` writes for people and for programs."""

    name: str
    title: str
    settings: Mapping[str, Any]
    claims: Sequence[Claim]
    tables: Sequence[Table]
    notes: Sequence[str]
    measurements: Mapping[str, Any] = field(default_factory=dict)
    script: str = ""
    """Name of the benchmark where the report has another."""


def finish(report: Report, folder: Path, arguments: Sequence[str]) -> int:
    """Write ``<name>.md`` and ``<name>.json`` into ``folder``, print the claims, and return the exit code.

    1 if a claim is not met.
    """
    origin = provenance.collect().model_dump(mode="json")
    command = shown_line(["python", "-m", f"benchmarks.{report.script or report.name}", *arguments])
    content = {
        "benchmark": report.name,
        "command": command,
        "settings": dict(report.settings),
        "claims": [asdict(claim) for claim in report.claims],
        "measurements": dict(report.measurements),
        "provenance": origin,
    }
    write_text(folder / f"{report.name}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / f"{report.name}.md", markdown(report, command, origin))
    for claim in report.claims:
        print(claim)
    return 0 if all(claim.met for claim in report.claims) else 1


def markdown(report: Report, command: str, origin: Mapping[str, Any]) -> str:
    """Return the report for people."""
    parts = [f"# {report.title}", "\n".join(f"- {claim}" for claim in report.claims)]
    parts += [str(table) for table in report.tables]
    parts += ["\n".join(f"- {note}" for note in report.notes)] if report.notes else []
    parts += [
        f"```\n{command}\n```",
        str(Table(("setting", "value"), [(name, str(value)) for name, value in report.settings.items()])),
    ]
    machine = origin["hardware"]
    packages = ", ".join(f"{name} {version}" for name, version in origin["packages"].items())
    parts.append(
        f"Measured {origin['created']} on {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, "
        f"{machine['gpu'] or 'no GPU'}, {machine['operating_system']}; Python {origin['python']}, toolkit "
        f"{origin['toolkit']} "
        f"(commit {origin['commit'] or 'unknown'}), {packages}."
    )
    return "\n\n".join(parts) + "\n"
