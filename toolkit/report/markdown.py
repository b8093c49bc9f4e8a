"""``report.md``: what was measured, on what, how, and what was not."""

from __future__ import annotations

from toolkit.report import figures
from toolkit.report.bench_sections import end_to_end_note, end_to_end_table, reasons, tuned_table
from toolkit.report.markdown_text import bullets as _bullets
from toolkit.report.markdown_text import escape as _escape
from toolkit.report.markdown_text import markdown_table as _table
from toolkit.report.parity import parity_checks, parity_failures, parity_table
from toolkit.report.tables import bench_table, class_table, cost_table, headline, marks, most_confused, remarks
from toolkit.results import BenchReport, Evaluation, Load, ParityReport

_COSTS = (
    "Processor time is of all threads of the worker, and more than the time of the call where several compute. GFLOP/s "
    "counts the network's convolutions and matrix products, a multiplication and an addition as two, whatever the "
    "precision; the peak is the fastest float32 matrix product of PyTorch in the same run, on the same device with the "
    "same threads. Memory above idle is the peak of the process less what it took before the model was opened."
)


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
        *([_bullets([_escape(sentence) for sentence in marks(report)])] if marks(report) else []),
        *(["## What it costs", _table(costs), _COSTS] if (costs := cost_table(report)).lines else []),
        *_sections(report),
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


def _sections(report: BenchReport) -> list[str]:
    parts = []
    if why := reasons(report):
        parts += ["## Why", _bullets([f"`{name}`: {_escape(reason)}." for name, reason in why])]
    if (end_to_end := end_to_end_table(report)).lines:
        parts += ["## From files to labels", _table(end_to_end), f"{end_to_end_note(report)}."]
    if (tuned := tuned_table(report)).lines:
        parts += ["## Best settings", _table(tuned)]
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
    if report.machine is not None:
        lines += [
            f"Just before: {_load(report.machine.before)}.",
            f"While it measured: {_load(report.machine.during)}.",
        ]
    lines += [
        f"Fastest float32 matrix product on {peak.device}, {peak.threads} threads: "
        f"{figures.billions(peak.flops_per_second)} GFLOP/s."
        for peak in report.peaks
    ]
    if report.flops_per_image is not None:
        lines.append(f"One image takes {figures.billions(report.flops_per_image)} GFLOP.")
    return _bullets(lines)


def _load(load: Load) -> str:
    known = [
        f"load average {load.load_average:.1f}" if load.load_average is not None else "",
        f"other processes {load.busy_share:.0%} of processor time" if load.busy_share is not None else "",
        f"steal {load.steal_share:.1%}" if load.steal_share is not None else "",
        f"{load.frequency_mhz:.0f} MHz" if load.frequency_mhz is not None else "",
    ]
    return ", ".join(part for part in known if part) or "the system does not say how busy it was"


def _unmeasured(report: BenchReport) -> list[str]:
    said = [f"`{row.name}` on {row.device}: {_escape(row.missing)}" for row in report.rows if row.missing is not None]
    devices = {row.device for row in report.rows}
    if "cuda" not in devices:
        gpu = report.provenance.hardware.gpu
        said.append(
            f"GPU speed: CUDA was not asked for, or no engine here can use {_escape(gpu)}."
            if gpu
            else "GPU speed: there is no CUDA device on this machine."
        )
    if "cpu" not in devices:
        said.append("CPU speed: only CUDA was asked for.")
    if not end_to_end_table(report).lines:
        said.append("Decoding and resizing of image files, and anything else around the call of the model.")
    return said


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
