"""``report.md``: the page of a run as text, for a pull request: what to ship first, then why."""

from __future__ import annotations

import shlex

from toolkit.report import details, sentences
from toolkit.report.bench_sections import end_to_end_note, end_to_end_table, reasons, tuned_table
from toolkit.report.markdown_text import bullets as _bullets
from toolkit.report.markdown_text import code as _code
from toolkit.report.markdown_text import escape as _escape
from toolkit.report.markdown_text import markdown_table as _table
from toolkit.report.parity import parity_checks, parity_failures, parity_table
from toolkit.report.records import RunRecords
from toolkit.report.tables import bench_table, cost_table, headline, marks, most_confused, remarks
from toolkit.results import BenchReport, Evaluation, ParityReport, Review

MOST_LISTED = 20
"""Images, settings and classes of one kind; the records have all, and the page has more."""
_COSTS = (
    "Processor time is of all threads of the worker, and more than the time of the call where several compute. GFLOP/s "
    "counts the network's convolutions and matrix products, a multiplication and an addition as two, whatever the "
    "precision; the peak is the fastest float32 matrix product of PyTorch or onnxruntime in the same run, on the same "
    "device with the same threads. Memory above idle is the peak of the process less what it took before the model was "
    "opened."
)


def bench_markdown(records: RunRecords) -> str:
    """Return the report as Markdown; a part that there are no records for is left out."""
    report = records.bench
    parts = [
        f"# {_escape(records.name)}: {_escape(report.model)}, fine-tuned on {_escape(report.data)}",
        *_answer(records),
        "## Comparison",
        _table(bench_table(report)),
        *([_bullets([_escape(sentence) for sentence in marks(report)])] if marks(report) else []),
        *_sections(report),
        *_parts(records),
        "## How it was measured",
        _method(report),
        "## Machine",
        _bullets([_escape(line) for line in sentences.machine_lines(report)]),
        "## What was not measured",
        _bullets(_unmeasured(report)),
        "## Make it again",
        "```bash\n" + "\n".join(sentences.again(records)) + "\n```",
        f"Made by {_code(f'toolkit bench --run {shlex.quote(records.name)}')}; written again from its records by "
        f"{_code(f'toolkit report --run {shlex.quote(records.name)}')}.",
    ]
    return "\n\n".join(parts) + "\n"


def _answer(records: RunRecords) -> list[str]:
    """Return how good it is, what to ship, and what must be known before either is believed."""
    lines = []
    if records.evaluation is not None:
        said = _escape(headline(records.evaluation))
        lines.append(f"{said[0].upper()}{said[1:]}.")
        lines += [f"{_escape(remark)}." for remark in remarks(records.evaluation)]
        if (few := sentences.few_images(records.evaluation)) is not None:
            lines.append(f"**{_escape(few)}**")
    if records.bench.machine is not None:
        lines += [f"**{_escape(remark)}**" for remark in records.bench.machine.remarks]
    lines.append(_bullets([_escape(line) for line in sentences.recommendation_lines(records.recommendation)]))
    return lines


def _sections(report: BenchReport) -> list[str]:
    """Return what limits each row, what it costs, where the time of an image goes, and the best settings."""
    parts = []
    if why := reasons(report):
        parts += ["## Why", _bullets([f"{_code(name)}: {_escape(reason)}." for name, reason in why])]
    if (costs := cost_table(report)).lines:
        parts += ["## What it costs", _table(costs), _COSTS]
    if (end_to_end := end_to_end_table(report)).lines:
        parts += ["## From files to labels", _table(end_to_end), f"{end_to_end_note(report)}."]
    if (tuned := tuned_table(report)).lines:
        parts += ["## Best settings", _table(tuned)]
    return parts


def _parts(records: RunRecords) -> list[str]:
    parts = []
    if records.review is not None:
        parts += _review(records.review)
    if (calibrated := sentences.calibration_sentence(records)) is not None:
        parts += ["## Calibration", _escape(calibrated)]
    if records.parity is not None:
        parts += ["## Parity", _parity(records.name, records.parity)]
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
            parts += [_table(details.suspect_table(issues.suspects[:MOST_LISTED]))]
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
            "rounds; `vs eager` compares with plain PyTorch on the same device, round by round.",
            "Warm-up ends when the times of calls are stable; a row stops after 7 rounds or more once the interval of "
            "its ratio is narrow.",
            "A cold start is from the start of a process to its first answer, measured once, alone. "
            "Load time is opening the file with the engine already imported, memory is the peak of the process while "
            "speed was measured, "
            "accuracy is over the test images with its 95% Wilson interval.",
        ]
    )


def _unmeasured(report: BenchReport) -> list[str]:
    reasons = [
        f"{_code(row.name)} on {row.device}: {_escape(row.missing)}" for row in report.rows if row.missing is not None
    ]
    return reasons + [_escape(line) for line in sentences.unmeasured_lines(report)]


def _parity(name: str, parity: ParityReport) -> str:
    verdict = "passed" if parity.passed else "**failed**"
    failures = [
        f"{_code(owner)}: {_escape(failure)}" for owner, sentences in parity_failures(parity) for failure in sentences
    ]
    flips = details.flip_table(parity, MOST_LISTED)
    parts = [
        _bullets([_escape(sentences.parity_sentence(artifact)) for artifact in parity.artifacts]),
        f"Every artifact against {_escape(parity.reference)}, by "
        f"{_code(f'toolkit verify --run {shlex.quote(name)}')}: {verdict}. "
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
