"""What the page of several runs shows: those of one machine beside each other, never those of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.report import charts, figures, sentences
from toolkit.report.charts import Chart
from toolkit.report.recommendation import Choice, overlap
from toolkit.report.records import RunRecords
from toolkit.report.run_view import RunView
from toolkit.report.tables import Column, Line, Table

COLUMNS = (
    Column("run", "left"),
    Column("model", "left"),
    Column("test accuracy [95%]"),
    Column("for latency", "left"),
    Column("p50 ms"),
    Column("for throughput", "left"),
    Column("img/s [95%]"),
    Column("size MB"),
    Column("accuracy cost, points"),
)


@dataclass(frozen=True)
class Member:
    """A run on the page."""

    name: str
    """With the folder around it where two runs have the same name."""
    run: RunRecords
    link: str
    """To its own page; empty where it has none."""


@dataclass(frozen=True)
class Group:
    """The runs that were measured on one machine with as many threads."""

    machine: str
    members: tuple[Member, ...]
    chart: Chart | None
    table: Table

    @property
    def links(self) -> tuple[str, ...]:
        """Where the pages of the runs are, in the order of the table."""
        return tuple(member.link for member in self.members)


class RunsView:
    """The parts of the page."""

    def __init__(self, runs: Sequence[RunRecords], links: Sequence[str], left_out: Sequence[str]) -> None:
        """Say of which runs, where their own pages are, and what is not shown."""
        self.runs = runs
        self.left_out = left_out
        machines: dict[str, list[Member]] = {}
        for member in map(Member, _names(runs), runs, links):
            machines.setdefault(machine_of(member.run), []).append(member)
        self.groups = [_group(number, machine, members) for number, (machine, members) in enumerate(machines.items())]

    @property
    def title(self) -> str:
        """How many runs there are."""
        return "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs side by side"

    @property
    def warnings(self) -> list[str]:
        """What must be known before two runs are compared."""
        found = []
        if len(self.groups) > 1:
            found.append(
                f"These runs were measured on {len(self.groups)} machines or with other numbers of threads: speeds are "
                "comparable within one part of this page, not between them."
            )
        if len({tested_on(run) for run in self.runs}) > 1:
            found.append("They were tested on different images: their accuracies are not comparable.")
        if len(self.runs) == 1 and not self.left_out:
            found.append("There is one run here: name several to compare them.")
        return found

    @property
    def best(self) -> list[str]:
        """Which run to take, where that can be said."""
        return [line for group in self.groups for line in _best(group, len(self.groups) > 1)]


def machine_of(run: RunRecords) -> str:
    """Return what must be the same for speeds to be comparable, as a phrase."""
    hardware = run.bench.provenance.hardware
    threads = sentences.threads_of(run.bench)
    gpu = f", {hardware.gpu}" if hardware.gpu else ""
    memory = f"{hardware.memory_bytes / 1e9:.0f} GB"
    return f"{hardware.processor}, {hardware.cores} cores, {memory}{gpu}, {threads} threads"


def tested_on(run: RunRecords) -> str:
    """Return what tells the test images of two runs apart; the source's name where nothing better is known."""
    if run.record is not None and (test := run.record.data.splits.get("test")) is not None:
        return test.fingerprint
    return run.bench.data


def _names(runs: Sequence[RunRecords]) -> list[str]:
    """Return the names of runs, with the folder around them where two have the same one."""
    folders = {run.folder.path.resolve() for run in runs if run.folder is not None}
    names = [folder.name for folder in folders]
    return [
        run.name if run.folder is None or names.count(run.name) < 2 else "/".join(run.folder.path.resolve().parts[-2:])
        for run in runs
    ]


def _group(number: int, machine: str, members: Sequence[Member]) -> Group:
    views = [RunView(member.run) for member in members]
    points = []
    for member, view in zip(members, views, strict=True):
        choices = [choice for choice in view.recommendation.choices if choice.purpose == "throughput"]
        for row in [choice.chosen.row for choice in choices]:
            device = f", {row.device}" if len(choices) > 1 else ""
            if (point := view.point(row, set(), f"{member.name}: {row.name}{device}")) is not None:
                points.append(point)
    title = "Accuracy and throughput of what each run would ship"
    several_data = len({view.data for view in views}) > 1
    columns = [*COLUMNS[:2], *([Column("data", "left")] if several_data else []), *COLUMNS[2:]]
    lines = [_line(member, view, several_data) for member, view in zip(members, views, strict=True)]
    return Group(
        machine=machine,
        members=tuple(members),
        chart=charts.trade_off(points, f"runs{number}", title) if points else None,
        table=Table(tuple(columns), tuple(lines)),
    )


def _line(member: Member, view: RunView, with_data: bool) -> Line:
    latency, throughput = view.recommendation.of("latency"), view.recommendation.of("throughput")
    key = (member.name, view.bench.model, *([view.data] if with_data else []))
    if latency is None or throughput is None:
        return Line(key, missing=view.recommendation.reason)
    return Line(
        (
            *key,
            _accuracy(throughput),
            latency.chosen.row.name,
            figures.milliseconds(latency.chosen.speed.p50_seconds),
            throughput.chosen.row.name,
            figures.estimate(throughput.chosen.speed.images_per_second),
            figures.megabytes(throughput.chosen.size_bytes),
            _cost(throughput),
        )
    )


def _cost(choice: Choice) -> str:
    paired = choice.chosen.accuracy
    return figures.NONE if paired is None else figures.points(paired.difference, paired.interval)


def _best(group: Group, several: bool) -> list[str]:
    """Name the runs on the front of accuracy against throughput."""
    where = f" on {group.machine}" if several else ""
    if len(group.members) == 1:
        return []
    if len({tested_on(member.run) for member in group.members}) > 1:
        return []
    ranked = []
    for member in group.members:
        choice = member.run.recommendation.of("throughput")
        if choice is not None and choice.chosen.row.test_accuracy is not None:
            ranked.append((member.name, choice))
    if not ranked:
        return []
    accurate = max(ranked, key=lambda item: item[1].chosen.row.test_accuracy or 0.0)
    fast = max(ranked, key=lambda item: item[1].chosen.speed.images_per_second.median)
    lines = [
        f"Most accurate{where}: {accurate[0]}, {_accuracy(accurate[1])} with {accurate[1].chosen.row.name}.",
        f"Highest throughput{where}: {fast[0]}, "
        f"{figures.estimate(fast[1].chosen.speed.images_per_second)} images/s with {fast[1].chosen.row.name}.",
    ]
    level = [name for name, choice in ranked if name != accurate[0] and _level(choice, accurate[1])]
    if level:
        lines.append(
            f"A difference in accuracy between {accurate[0]} and {sentences.listed(level)} is not shown: their "
            "intervals overlap."
        )
    rate = fast[1].chosen.speed.images_per_second.interval
    as_fast = [
        name
        for name, choice in ranked
        if name != fast[0] and overlap(choice.chosen.speed.images_per_second.interval, rate)
    ]
    if as_fast:
        lines.append(
            f"A difference in throughput between {fast[0]} and {sentences.listed(as_fast)} is not shown: their "
            "intervals overlap."
        )
    return lines


def _accuracy(choice: Choice) -> str:
    return figures.percent_interval(choice.chosen.row.test_accuracy, choice.chosen.row.test_accuracy_interval)


def _level(first: Choice, second: Choice) -> bool:
    mine, other = first.chosen.row.test_accuracy_interval, second.chosen.row.test_accuracy_interval
    return mine is not None and other is not None and overlap(mine, other)
