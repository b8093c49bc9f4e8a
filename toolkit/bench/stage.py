"""The benchmark of a run: gate, measure, write."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit import provenance
from toolkit.bench import statistics
from toolkit.bench.clock import Clock, MonotonicClock
from toolkit.bench.end_to_end import Asked, image_files, measure_end_to_end
from toolkit.bench.inputs import Inputs, prepared_inputs
from toolkit.bench.options import BenchOptions
from toolkit.bench.rows import devices, plan_rows
from toolkit.bench.settings_sweep import Found, sweep_settings
from toolkit.bench.sweep import Outcome, Settings, Sweep
from toolkit.bench.why import with_reasons
from toolkit.bundle import Bundle
from toolkit.bundle.recording import record_benchmarks
from toolkit.compare.metrics import wilson_interval
from toolkit.data import Split
from toolkit.data.of_run import load_test_split
from toolkit.errors import RunError
from toolkit.formats.opening import not_opened
from toolkit.formats.quantization.arithmetic import adds_in_32_bits, processor_flags
from toolkit.progress import Reporter, Silent
from toolkit.results import BatchTiming, BenchReport, BenchRow, EndToEnd
from toolkit.run_folder import FinishedRun, RunFolder

SEED = 0


def bench_run(
    run: RunFolder | FinishedRun, options: BenchOptions | None = None, *, reporter: Reporter | None = None
) -> BenchReport:
    """Measure PyTorch and every artifact of a run; write ``bench/bench.json`` and the manifest's benchmark records.

    Args:
        run: a run whose bundle was verified.
        options: device, threads, batch sizes, and how long to measure.
        reporter: where progress goes.

    Raises:
        RunError: the run is not finished, not verified, its bundle is of other weights, or its test images have
            changed.
        BundleError: there is no bundle, or a file of it was changed.
        DeviceError: there is no such device.
    """
    clock: Clock = MonotonicClock()
    start = clock.now()
    options, reporter = options or BenchOptions(), reporter or Silent()
    threads = options.thread_count
    run = FinishedRun.of(run)
    bundle = Bundle.open(run.folder.bundle, allow_code=options.allow_code)
    record, manifest = run.record, bundle.manifest
    check_verified(bundle)
    run.require_exported_weights(manifest)
    run.require_own_weights()
    plans = plan_rows(run, bundle, devices(options.device), threads)
    test = load_test_split(run, reporter)
    settings = Settings(tuple(dict.fromkeys(options.batch_sizes)), options.rounds, options.min_seconds, SEED)
    with prepared_inputs(test, manifest.preprocessing, options.accuracy_images, SEED, reporter) as inputs:
        outcomes = Sweep(plans, inputs, manifest.input, settings, reporter).run()
        images = inputs.count
        further = _measure_further(bundle, outcomes, test, inputs, options, reporter)
    size = f"{manifest.preprocessing.height} x {manifest.preprocessing.width}"
    report = BenchReport(
        run=run.folder.name,
        model=f"{record.backbone}, {size}, {len(record.labels)} classes",
        data=record.data.source,
        rows=tuple(further.added(bench_row(outcome, threads, images)) for outcome in outcomes),
        seconds=clock.now() - start,
        provenance=provenance.collect(),
        int8_dot_products=adds_in_32_bits(platform.machine(), processor_flags()),
    )
    report = with_reasons(report)
    report.save(run.folder.bench_file)
    record_benchmarks(run.folder.bundle, report)
    return report


@dataclass(frozen=True)
class Further:
    """What else was measured of artifacts, by name and device of the row."""

    found: Mapping[tuple[str, str], Found]
    end_to_end: Mapping[tuple[str, str], EndToEnd]

    def added(self, row: BenchRow) -> BenchRow:
        """Return a row with it."""
        key = (row.name, row.device)
        found = self.found.get(key, Found())
        return row.model_copy(
            update={"sweep": found.sweep, "tuned": found.tuned, "end_to_end": self.end_to_end.get(key)}
        )


def _measure_further(
    bundle: Bundle,
    outcomes: Sequence[Outcome],
    test: Split,
    inputs: Inputs,
    options: BenchOptions,
    reporter: Reporter,
) -> Further:
    """Measure what is asked for of the artifacts that could be measured at all."""
    plans = [outcome.plan for outcome in outcomes if outcome.plan.artifact is not None and outcome.missing is None]
    end_to_end: dict[tuple[str, str], EndToEnd] = {}
    if options.end_to_end and plans:
        files = image_files(test, inputs.folder / "files", SEED)
        asked = Asked(bundle.path, options.thread_count, options.allow_code, options.min_seconds)
        end_to_end = measure_end_to_end(plans, files, asked, reporter)
    found = sweep_settings(plans, inputs, bundle.manifest.input, options, reporter) if options.sweep else {}
    return Further(found, end_to_end)


def check_verified(bundle: Bundle) -> None:
    """Refuse artifacts that nobody has compared with PyTorch: the speed of a wrong model is no result.

    One that must not be opened is not measured either, and its row says why.

    Raises:
        RunError: naming the artifacts without a verdict.
    """
    unverified = [
        artifact.file
        for artifact in bundle.manifest.artifacts
        if artifact.parity is None and not_opened(bundle, artifact) is None
    ]
    if unverified:
        raise RunError(
            f"{', '.join(unverified)} of {bundle.path} {'was' if len(unverified) == 1 else 'were'} not verified: run "
            "'toolkit verify' first."
        )


def bench_row(outcome: Outcome, threads: int, images: int) -> BenchRow:
    """Turn what was measured into a row.

    A row that dropped out has no figures at all, so that half of them cannot mislead.

    Args:
        outcome: of one row.
        threads: CPU threads it was given.
        images: test images that accuracy was measured on.
    """
    plan, measured = outcome.plan, outcome.missing is None
    return BenchRow(
        name=plan.name,
        file=plan.file,
        sha256=plan.sha256,
        device=plan.device,
        missing=outcome.missing,
        engine=outcome.engine if measured else None,
        threads=threads,
        spinning=outcome.spinning if measured else None,
        timings=tuple(batch_timing(size, rounds) for size, rounds in sorted(outcome.rounds.items()))
        if measured
        else (),
        load_seconds=outcome.load_seconds if measured else None,
        peak_memory_bytes=outcome.peak_memory_bytes if measured else None,
        size_bytes=plan.size_bytes,
        test_accuracy=outcome.correct / images if measured else None,
        test_accuracy_interval=wilson_interval(outcome.correct, images) if measured else None,
        test_images=images if measured else 0,
        precision=None if plan.artifact is None else plan.artifact.precision,
    )


def batch_timing(batch_size: int, rounds: list[list[float]]) -> BatchTiming:
    """Return speed at one batch size from the per-call seconds of each round."""
    return BatchTiming(
        batch_size=batch_size,
        throughput=statistics.estimate([statistics.throughput(batch_size, seconds) for seconds in rounds], seed=SEED),
        latency=statistics.latency([call for seconds in rounds for call in seconds]),
    )
