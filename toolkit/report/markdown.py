"""``report.md``: what was measured, on what, how, and what was not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from toolkit.devices import kind_of
from toolkit.printable import printable
from toolkit.report.parity import parity_checks, parity_failures, parity_table
from toolkit.report.tables import Table, bench_table, class_table, headline, most_confused, remarks
from toolkit.results import BenchReport, Evaluation, ParityReport


def bench_markdown(report: BenchReport, parity: ParityReport | None, evaluation: Evaluation | None) -> str:
    """Return the report as Markdown.

    Args:
        report: the benchmark.
        parity: verdicts of ``toolkit verify``; left out if None.
        evaluation: the fine-tuned model on the test split; left out if None.
    """
    parts = [
        f"# {_escape(report.run)}: benchmark",
        f"{_escape(report.model)}, fine-tuned on {_escape(report.data)}. Made by `toolkit bench --run {report.run}`; "
        f"written again from its records by `toolkit report --run {report.run}`.",
        "## Comparison",
        _table(bench_table(report)),
        "## How it was measured",
        _method(report),
        "## Machine",
        _machine(report),
        "## What was not measured",
        _bullets(_unmeasured(report)),
    ]
    if parity is not None:
        parts += ["## Parity", _parity(parity)]
    if evaluation is not None:
        parts += ["## Accuracy of the fine-tuned model", _evaluation(evaluation)]
    return "\n\n".join(parts) + "\n"


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


def _machine(report: BenchReport) -> str:
    provenance = report.provenance
    machine = provenance.hardware
    threads = "/".join(str(count) for count in sorted({row.threads for row in report.rows}))
    engines = sorted({row.engine for row in report.rows if row.engine})
    lines = [
        f"{_escape(machine.processor)}, {machine.cores} cores, {machine.memory_bytes / 1e9:.1f} GB memory, "
        f"{_escape(machine.operating_system)}; "
        f"GPU: {_escape(machine.gpu) if machine.gpu else 'none'}.",
        f"{threads} CPU threads for every row; engines: {', '.join(engines) or 'none ran'}.",
        f"toolkit {provenance.toolkit}, Python {provenance.python}, "
        f"{', '.join(f'{name} {version}' for name, version in provenance.packages.items())}.",
        f"{provenance.created}, {report.seconds:.0f} s"
        + (f", commit {provenance.commit}." if provenance.commit else "."),
    ]
    return _bullets(lines)


def _unmeasured(report: BenchReport) -> list[str]:
    reasons = [
        f"`{row.name}` on {row.device}: {_escape(row.missing)}" for row in report.rows if row.missing is not None
    ]
    devices = {kind_of(row.device) for row in report.rows}
    if "cuda" not in devices:
        gpu = report.provenance.hardware.gpu
        reasons.append(
            f"GPU speed: CUDA was not asked for, or no engine here can use {_escape(gpu)}."
            if gpu
            else "GPU speed: there is no CUDA device on this machine."
        )
    if "cpu" not in devices:
        reasons.append("CPU speed: only CUDA was asked for.")
    reasons.append("Decoding and resizing of image files, and anything else around the call of the model.")
    return reasons


def _parity(parity: ParityReport) -> str:
    verdict = "passed" if parity.passed else "**failed**"
    failures = [
        f"`{owner}`: {_escape(failure)}" for owner, sentences in parity_failures(parity) for failure in sentences
    ]
    parts = [
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
    return "\n\n".join([*parts, _bullets(failures)] if failures else parts)


def _evaluation(evaluation: Evaluation) -> str:
    parts = [f"{headline(evaluation)}.", *(f"{_escape(remark)}." for remark in remarks(evaluation))]
    parts.append(_table(class_table(evaluation)))
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
