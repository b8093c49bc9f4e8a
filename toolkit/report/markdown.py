"""``report.md``: the page of a run as text, for a pull request: what to ship first, then why."""

from __future__ import annotations

import re
from collections.abc import Sequence

from toolkit.printable import printable
from toolkit.report import details, figures, sentences
from toolkit.report.parity import parity_checks, parity_failures, parity_table
from toolkit.report.records import RunRecords
from toolkit.report.tables import Table, bench_table, headline, most_confused, remarks
from toolkit.results import BenchReport, BenchRow, Evaluation, ParityReport, Review

MOST_LISTED = 20
"""Images, settings and classes of one kind; the records have all, and the page has more."""


def bench_markdown(records: RunRecords) -> str:
    """Return the report as Markdown; a part that there are no records for is left out."""
    report = records.bench
    parts = [
        f"# {_escape(report.run)}: {_escape(report.model)}, fine-tuned on {_escape(report.data)}",
        *_answer(records),
        "## Comparison",
        _table(bench_table(report)),
        *_reasons(report.rows),
        *_parts(records),
        "## How it was measured",
        _method(report),
        "## Machine",
        _bullets([_escape(line) for line in sentences.machine_lines(report)]),
        "## What was not measured",
        _bullets(_unmeasured(report)),
        "## Make it again",
        "```bash\n" + "\n".join(sentences.again(records)) + "\n```",
        f"Made by `toolkit bench --run {report.run}`; written again from its records by `toolkit report --run "
        f"{report.run}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _answer(records: RunRecords) -> list[str]:
    """Return how good it is, what to ship, and what must be known before either is believed."""
    lines = []
    if records.evaluation is not None:
        said = _escape(headline(records.evaluation))
        lines.append(f"{said[0].upper()}{said[1:]}.")
        lines += [f"{_escape(remark)}." for remark in remarks(records.evaluation)]
    if records.bench.machine is not None:
        lines += [f"**{_escape(remark)}**" for remark in records.bench.machine.remarks]
    lines.append(_bullets([_escape(line) for line in sentences.recommendation_lines(records.recommendation)]))
    return lines


def _reasons(rows: Sequence[BenchRow]) -> list[str]:
    """Return what limits each row, where the time of an image goes, and the best settings."""
    parts = []
    if whys := [f"`{row.name}` on {row.device}: {_escape(row.why)}" for row in rows if row.why is not None]:
        parts += ["What limits each row:", _bullets(whys)]
    if (costs := details.cost_table([row for row in rows if row.missing is None])) is not None:
        parts += ["What each row takes of the machine:", _table(costs)]
    ends = [(f"{row.name}, {row.device}", row.end_to_end) for row in rows if row.end_to_end is not None]
    if ends:
        parts += [
            "## Where the time of an image goes",
            "From the bytes of a file to a label; another quantity than the time of the model alone above.",
            _table(details.end_to_end_table(ends)),
        ]
    tuned = [
        f"`{row.name}` on {row.device}, {best.purpose}: batch size {best.batch_size}, {best.threads} threads, "
        f"{best.streams} streams: {figures.number(best.images_per_second)} images/s, "
        f"{figures.milliseconds(best.latency_p50_seconds)} ms per call"
        for row in rows
        for best in row.tuned
    ]
    return [*parts, "## Best settings", _bullets(tuned)] if tuned else parts


def _parts(records: RunRecords) -> list[str]:
    parts = []
    if records.review is not None:
        parts += _review(records.review)
    if (calibrated := sentences.calibration_sentence(records)) is not None:
        parts += ["## Calibration", _escape(calibrated)]
    if records.parity is not None:
        parts += ["## Parity", _parity(records.parity)]
    if records.evaluation is not None:
        parts += ["## Accuracy of the fine-tuned model", _evaluation(records, records.evaluation)]
    if lines := sentences.data_lines(records):
        parts += ["## Data", _bullets([_escape(line) for line in lines])]
    return parts


def _review(review: Review) -> list[str]:
    parts = []
    if review.mistakes:
        parts += [
            "## What it gets wrong",
            f"The most confident of {review.mistakes_in_all} mistakes.",
            _table(details.mistake_table(review.mistakes[:MOST_LISTED])),
        ]
    issues = review.label_issues
    if issues is not None:
        parts += ["## Labels that are probably wrong", _escape(sentences.label_sentence(issues))]
        if issues.suspects:
            parts += [_table(details.mistake_table(issues.suspects[:MOST_LISTED]))]
        parts += [_bullets([_escape(limit) for limit in issues.limits])]
    return parts


def _method(report: BenchReport) -> str:
    timings = [timing for row in report.rows for timing in row.timings]
    rounds = sorted({timing.throughput.rounds for timing in timings})
    count = f"{'/'.join(map(str, rounds))} rounds" if rounds else "rounds"
    return _bullets(
        [
            f"Each row runs in a process of its own; {count} are interleaved over all rows in a shuffled order, one "
            "row computing at a time, "
            "on real test images that are already decoded and resized.",
            "img/s is the median over rounds with its 95% bootstrap interval; p50, p95 and p99 are percentiles of "
            "the time of one call over all "
            "rounds; `vs eager` compares with plain PyTorch on the same device.",
            "Load time is opening the file with the engine already imported, memory is the peak of the process while "
            "speed was measured, "
            "accuracy is over the test images with its 95% Wilson interval.",
        ]
    )


def _unmeasured(report: BenchReport) -> list[str]:
    reasons = [
        f"`{row.name}` on {row.device}: {_escape(row.missing)}" for row in report.rows if row.missing is not None
    ]
    return reasons + [_escape(line) for line in sentences.unmeasured_lines(report)]


def _parity(parity: ParityReport) -> str:
    verdict = "passed" if parity.passed else "**failed**"
    failures = [
        f"`{owner}`: {_escape(failure)}" for owner, sentences in parity_failures(parity) for failure in sentences
    ]
    flips = details.flip_table(parity, MOST_LISTED)
    parts = [
        _bullets([_escape(sentences.parity_sentence(artifact)) for artifact in parity.artifacts]),
        f"Every artifact against {_escape(parity.reference)}, by `toolkit verify --run {parity.run}`: {verdict}. "
        "Errors are those of the logits; "
        "`relative` is relative to the largest logit of the same image, `rounding` is the typical error as a "
        "multiple of what PyTorch itself loses "
        "against float64. A flip is an input whose most probable class differs; the first number counts those whose "
        "margin is above what the "
        "tolerance explains.",
        _table(parity_table(parity)),
    ]
    if checks := parity_checks(parity):
        parts.append(_bullets([_escape(line) for line in checks]))
    if failures:
        parts.append(_bullets(failures))
    if flips.lines:
        parts += ["Images that change their class:", _table(flips)]
    return "\n\n".join(parts)


def _evaluation(records: RunRecords, evaluation: Evaluation) -> str:
    table = details.class_table(records)
    parts = [] if table is None else [_table(table)]
    if mistakes := most_confused(evaluation):
        confusions = "; ".join(
            f"{_escape(true)} taken for {_escape(predicted)} ({images})" for true, predicted, images in mistakes
        )
        parts.append(f"Most frequent mistakes: {confusions}.")
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    head = [column.header for column in table.columns]
    rule = ["---" if column.align == "left" else "---:" for column in table.columns]
    lines = [_row(head), _row(rule)]
    for line in table.lines:
        cells = [_escape(cell) for cell in line.cells]
        if line.missing is not None:
            # Markdown has no spanning cells: the reason stands in full under "What was not measured".
            noticed = next(index for index, column in enumerate(table.columns) if column.notice)
            cells = [
                cells[index] if index < len(cells) else "not measured, see below" if index == noticed else ""
                for index in range(len(head))
            ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _escape(text: str) -> str:
    """Keep labels and messages from being read as Markdown."""
    text = re.sub(r"([\\|*`<])", r"\\\1", printable(" ".join(text.split()))).replace("](", "]\\(")
    # Inside a word an underscore is an underscore.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
