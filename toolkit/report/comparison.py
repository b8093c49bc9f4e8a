"""A comparison as plain text: what came of it in a line, the tables, and what a reader must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from toolkit.compare.ratios import joint_level
from toolkit.report import figures
from toolkit.report.markdown_text import bullets, escape, markdown_table
from toolkit.report.tables import Column, Line, Table
from toolkit.results import AccuracyComparison, ComparedRow, ComparedSide, Comparison, Gate, SpeedComparison

NOT_COMPARABLE = "not comparable"
SHORT = {"no difference shown": "none shown"}
"""Verdicts in the column ``difference`` of a table, which has to fit 80 columns."""


def comparison_headline(comparison: Comparison) -> str:
    """Return what came of it as one line."""
    parts = [gate_sentence(gate) for gate in comparison.gates]
    speeds: Counter[str] = Counter(speed.verdict for _, speed in _speeds(comparison))
    scores: Counter[str] = Counter(scored.verdict for _, scored in _scores(comparison))
    parts.append(f"B against A in speed: {_counted(speeds)}")
    if scores:
        parts.append(f"in accuracy: {_counted(scores)}")
    return "; ".join(parts)


def gate_sentence(gate: Gate) -> str:
    """Return what came of a gate, in a few words."""
    limit = f"{gate.name} may fall by {gate.limit:.2%}"
    if not gate.judged:
        return f"{limit}: NOT JUDGED, nothing could be compared"
    unknown = f"{len(gate.not_judged)} NOT JUDGED" if gate.not_judged else ""
    if gate.failures:
        also = f", {unknown}" if unknown else ""
        return f"{limit}: FAILED in {len(gate.failures)} of {gate.judged} {_lines(gate.judged)}{also}"
    if unknown:
        return f"{limit}: {unknown}, nothing wrong with the other {gate.judged} {_lines(gate.judged)}"
    return f"{limit}: passed, {gate.judged} {_lines(gate.judged)}"


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return the tables of speed, of accuracy, and of files, as far as each has lines; each fits 80 columns."""
    rows = [row for row in comparison.rows if row.missing is None]
    devices = sorted({row.device for row in comparison.rows})
    keys = (
        (Column(f"model on {devices[0]}", "left"),)
        if len(devices) == 1
        else (Column("model", "left"), Column("device", "left"))
    )

    def table(columns: tuple[Column, ...], lines: Iterator[tuple[ComparedRow, tuple[str, ...]]]) -> Table:
        return Table(
            keys + columns,
            tuple(Line((*((row.name, row.device)[: len(keys)]), *cells)) for row, cells in lines),
        )

    ratio, difference = Column("B / A (interval)"), Column("difference", "left")
    speeds = (Column("batch"), Column("A img/s"), Column("B img/s"), ratio, difference)
    accuracies = (Column("A right"), Column("B right"), Column("B - A, points (interval)"), difference)
    files = (Column("A MB"), Column("B MB"), Column("A parity", "left"), Column("B parity", "left"))
    made = (
        table(speeds, ((row, _speed_cells(speed)) for row, speed in _speeds(comparison))),
        table(accuracies, ((row, _accuracy_cells(scored)) for row, scored in _scores(comparison))),
        table(files, ((row, _file_cells(row)) for row in rows)),
    )
    return [each for each in made if each.lines]


def _speed_cells(speed: SpeedComparison) -> tuple[str, ...]:
    return (
        str(speed.batch_size),
        figures.NONE if speed.a is None else figures.number(speed.a.median),
        figures.NONE if speed.b is None else figures.number(speed.b.median),
        _ratio(speed),
        SHORT.get(speed.verdict, speed.verdict),
    )


def _accuracy_cells(scored: AccuracyComparison) -> tuple[str, ...]:
    known = None if scored.difference is None or scored.interval is None else (scored.difference, scored.interval)
    return (
        figures.percent(scored.a),
        figures.percent(scored.b),
        figures.NONE if known is None else figures.points(*known),
        SHORT.get(scored.verdict, scored.verdict),
    )


def _file_cells(row: ComparedRow) -> tuple[str, ...]:
    sizes = (figures.megabytes(row.size_a_bytes), figures.megabytes(row.size_b_bytes))
    return (*sizes, row.parity_a or figures.NONE, row.parity_b or figures.NONE)


def comparison_failures(comparison: Comparison) -> list[str]:
    """Return why gates were not passed, a sentence each."""
    failures = [sentence for gate in comparison.gates for sentence in gate.failures]
    unknown = [f"{gate.name} is not judged of {line}" for gate in comparison.gates for line in gate.not_judged]
    return [" ".join(sentence.split()) for sentence in failures + unknown]


def comparison_notes(comparison: Comparison) -> list[str]:
    """Return what a reader must know, a sentence each without its full stop."""
    notes = [f"machines differ: {difference}" for difference in comparison.machine_differences]
    notes += comparison.remarks
    for row in comparison.rows:
        where = f"{row.name} on {row.device}"
        if row.missing is not None:
            notes.append(f"{where} is not compared: {row.missing}")
        for speed in row.speeds:
            at = f"{where} at batch {speed.batch_size}"
            notes += [f"{at} is not compared: {speed.why}"] if speed.why else []
            notes += [f"{at}: {remark}" for remark in speed.remarks]
        if {row.parity_a, row.parity_b} & {"failed", "not verified"}:
            notes.append(f"{where}: parity is {row.parity_a or 'not known'} in A, {row.parity_b or 'not known'} in B")
    unpaired = Counter(scored.why for _, scored in _scores(comparison) if scored.why)
    notes += [
        f"accuracy of {count} {_lines(count)} is not compared image by image: {why}" for why, count in unpaired.items()
    ]
    return [" ".join(note.split()) for note in (*notes, *_method(comparison))]


def side_sentence(letter: str, side: ComparedSide) -> str:
    """Return what one side is."""
    machine = ", ".join(
        part
        for part in (side.processor, None if side.cores is None else f"{side.cores} cores", side.gpu)
        if part is not None
    )
    when = "" if side.measured is None else f", measured {side.measured}"
    name, model, data = (" ".join(text.split()) for text in (side.name, side.model, side.data))
    return f"{letter}: {side.kind} {name}, {model}, {data}{when} on {machine or 'an unknown machine'}"


def comparison_markdown(comparison: Comparison) -> str:
    """Return the comparison for a pull request: what came of it first."""
    verdict = ""
    if comparison.gates:
        failed = any(gate.failures for gate in comparison.gates)
        verdict = ": **FAILED**" if failed else ": passed" if comparison.passed else ": **NOT JUDGED**"
    parts = [f"### toolkit compare{verdict}", f"{escape(comparison_headline(comparison))}."]
    if failures := comparison_failures(comparison):
        parts.append(bullets([f"{escape(failure)}." for failure in failures]))
    parts += [markdown_table(table) for table in comparison_tables(comparison)]
    sides = [side_sentence("A", comparison.a), side_sentence("B", comparison.b)]
    parts.append("<details><summary>What was compared, and how</summary>")
    parts.append(bullets([f"{escape(line)}." for line in (*sides, *comparison_notes(comparison))]))
    return "\n\n".join([*parts, "</details>"]) + "\n"


def _method(comparison: Comparison) -> Iterator[str]:
    methods = {speed.method for _, speed in _speeds(comparison) if speed.method}
    if "paired rounds" in methods:
        yield "both sides were measured now, in turns: what slows the machine slows both"
    if "separate rounds" in methods:
        yield (
            "the sides were measured at different times, so what the machine did between them is in the ratios: "
            "--measure measures both in turns"
        )
    if "intervals" in methods:
        yield "a side does not hold its rounds, so intervals of ratios are approximations from those of its medians"
    if {"paired rounds", "separate rounds"} & methods:
        yield (
            "B / A is the median over all pairs of rounds (Hodges and Lehmann), not the quotient of the two columns "
            "beside it, and its interval is that of the exact rank test"
            + (", in which each start of the processes counts once" if "paired rounds" in methods else "")
        )
    if comparison.tests:
        yield (
            f"all {comparison.tests} intervals hold together with {1 - comparison.false_calls:.0%} "
            f"({joint_level(comparison.tests):.2%} each)"
            + ("" if methods <= {"paired rounds"} else ", as far as the machine did the same at both times")
            + f": of comparisons in which nothing differs at most {comparison.false_calls:.0%} call any; of speed, a "
            f"difference below {comparison.told:.0%} is never called"
        )


def _speeds(comparison: Comparison) -> Iterator[tuple[ComparedRow, SpeedComparison]]:
    return ((row, speed) for row in comparison.rows for speed in row.speeds)


def _scores(comparison: Comparison) -> Iterator[tuple[ComparedRow, AccuracyComparison]]:
    return ((row, row.accuracy) for row in comparison.rows if row.accuracy is not None)


def _counted(verdicts: Counter[str]) -> str:
    order = ("slower", "worse", "faster", "better", "no difference shown", NOT_COMPARABLE)
    return ", ".join(f"{verdict} in {verdicts[verdict]}" for verdict in order if verdicts[verdict]) or "nothing"


def _ratio(speed: SpeedComparison) -> str:
    if speed.ratio is None or speed.interval is None:
        return figures.NONE
    return f"{speed.ratio:.3f} [{speed.interval.low:.3f}, {speed.interval.high:.3f}]"


def _lines(count: int) -> str:
    return "line" if count == 1 else "lines"
