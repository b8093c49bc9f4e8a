"""The benchmark of a run: gate, measure, write."""

from __future__ import annotations

from toolkit import provenance
from toolkit.bench import statistics
from toolkit.bench.clock import Clock, MonotonicClock
from toolkit.bench.inputs import prepared_inputs
from toolkit.bench.rows import devices, plan_rows
from toolkit.bench.sweep import Outcome, Settings, Sweep
from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.writer import record_benchmarks
from toolkit.compare.metrics import wilson_interval
from toolkit.data.of_run import load_test_split
from toolkit.errors import RunError, ToolkitError
from toolkit.progress import Reporter, Silent
from toolkit.results import BatchTiming, BenchReport, BenchRow
from toolkit.runs import FinishedRun, RunFolder

SEED = 0


def bench_run(
    run: RunFolder | FinishedRun,
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_sizes: tuple[int, ...] = (1, 32),
    rounds: int = 7,
    min_seconds: float = 0.15,
    accuracy_images: int | None = None,
    reporter: Reporter | None = None,
) -> BenchReport:
    """Measure PyTorch and every artifact of a run; write ``bench/bench.json`` and the manifest's benchmark records.

    Args:
        run: a run whose bundle was verified.
        device: ``cpu``, ``cuda``, or ``auto`` for the CPU and CUDA where there is a GPU.
        threads: CPU threads of every row; all cores of this process by default.
        batch_sizes: batch sizes to measure.
        rounds: interleaved rounds; more of them narrow the intervals.
        min_seconds: least measured time per row, batch size and round.
        accuracy_images: how many test images to measure accuracy on, drawn at random; all by default.
        reporter: where progress goes.

    Raises:
        RunError: the run is not finished, not verified, its bundle is of other weights, or its test images have
            changed.
        BundleError: there is no bundle, or a file of it was changed.
        DeviceError: there is no such device.
        ToolkitError: a count is out of range.
    """
    clock: Clock = MonotonicClock()
    start = clock.now()
    reporter = reporter or Silent()
    _check_counts(threads, batch_sizes, rounds, min_seconds, accuracy_images)
    threads = threads or provenance.available_cores()
    run = FinishedRun.of(run)
    record, manifest = run.record, Bundle.open(run.folder.bundle).manifest
    check_verified(run.folder, manifest)
    run.require_exported_weights(manifest)
    run.require_own_weights()
    plans = plan_rows(run, manifest, devices(device), threads)
    test = load_test_split(run, reporter)
    settings = Settings(tuple(dict.fromkeys(batch_sizes)), rounds, min_seconds, SEED)
    with prepared_inputs(test, manifest.preprocessing, accuracy_images, SEED, reporter) as inputs:
        outcomes = Sweep(plans, inputs, manifest.input, settings, reporter).run()
        images = inputs.count
    size = f"{manifest.preprocessing.height} x {manifest.preprocessing.width}"
    report = BenchReport(
        run=run.folder.name,
        model=f"{record.backbone}, {size}, {len(record.labels)} classes",
        data=record.data.source,
        rows=tuple(bench_row(outcome, threads, images) for outcome in outcomes),
        seconds=clock.now() - start,
        provenance=provenance.collect(),
    )
    report.save(run.folder.bench_file)
    record_benchmarks(run.folder.bundle, report)
    return report


def check_verified(run: RunFolder, manifest: Manifest) -> None:
    """Refuse artifacts that nobody has compared with PyTorch: the speed of a wrong model is no result.

    Raises:
        RunError: naming the artifacts without a verdict.
    """
    unverified = [artifact.file for artifact in manifest.artifacts if artifact.parity is None]
    if unverified:
        raise RunError(
            f"{', '.join(unverified)} of {run.bundle} {'was' if len(unverified) == 1 else 'were'} not verified: run "
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
        timings=tuple(batch_timing(size, rounds) for size, rounds in sorted(outcome.rounds.items()))
        if measured
        else (),
        load_seconds=outcome.load_seconds if measured else None,
        peak_memory_bytes=outcome.peak_memory_bytes if measured else None,
        size_bytes=plan.size_bytes,
        test_accuracy=outcome.correct / images if measured else None,
        test_accuracy_interval=wilson_interval(outcome.correct, images) if measured else None,
        test_images=images if measured else 0,
    )


def batch_timing(batch_size: int, rounds: list[list[float]]) -> BatchTiming:
    """Return speed at one batch size from the per-call seconds of each round."""
    return BatchTiming(
        batch_size=batch_size,
        throughput=statistics.estimate([statistics.throughput(batch_size, seconds) for seconds in rounds], seed=SEED),
        latency=statistics.latency([call for seconds in rounds for call in seconds]),
    )


def _check_counts(
    threads: int | None, batch_sizes: tuple[int, ...], rounds: int, min_seconds: float, accuracy_images: int | None
) -> None:
    if not batch_sizes or min(batch_sizes) < 1:
        raise ToolkitError(
            f"batch sizes {list(batch_sizes)} cannot be measured: give one or more whole numbers of 1 or more."
        )
    for name, value in (("threads", threads), ("rounds", rounds), ("accuracy_images", accuracy_images)):
        if value is not None and value < 1:
            raise ToolkitError(f"{name} is {value}: give a whole number of 1 or more.")
    if min_seconds < 0:
        raise ToolkitError(f"min_seconds is {min_seconds}: give 0 or more seconds.")
