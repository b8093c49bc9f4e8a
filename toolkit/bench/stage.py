"""The benchmark of a run: gate, measure, write."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit import provenance
from toolkit.bench.clock import Clock, MonotonicClock
from toolkit.bench.end_to_end import Asked, image_files, measure_end_to_end
from toolkit.bench.figures import Setting, bench_row, peaks
from toolkit.bench.flops import flops_per_image
from toolkit.bench.inputs import Inputs, prepared_inputs
from toolkit.bench.machine import Watch, machine_state, warning
from toolkit.bench.options import BenchOptions
from toolkit.bench.rows import Plan, devices, plan_rows
from toolkit.bench.settings_sweep import Found, sweep_settings
from toolkit.bench.sweep import Outcome, Settings, Sweep, reference_of
from toolkit.bench.why import with_reasons
from toolkit.bundle import Bundle
from toolkit.bundle.recording import record_benchmarks
from toolkit.data import Split
from toolkit.data.of_run import load_test_split
from toolkit.errors import RunError
from toolkit.formats.opening import not_opened
from toolkit.formats.quantization.arithmetic import adds_in_32_bits, processor_flags
from toolkit.progress import Reporter, Silent, working
from toolkit.results import BenchReport, BenchRow, EndToEnd
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
        RunError: the run is not finished, not verified, its bundle is of other weights, its test images have changed,
            or another process is writing it.
        FileWriteError: the run or its bundle cannot be written; said before anything is measured.
        BundleError: there is no bundle, or a file of it was changed.
        DeviceError: there is no such device.
        KeyboardInterrupt: somebody stopped it; during the sweep, what was measured before is written first.
    """
    clock: Clock = MonotonicClock()
    start, watch = clock.now(), Watch()
    options, reporter = options or BenchOptions(), reporter or Silent()
    threads = options.thread_count
    run = FinishedRun.of(run)
    bundle = Bundle.open(run.folder.bundle, allow_code=options.allow_code)
    record, manifest = run.record, bundle.manifest
    check_verified(bundle)
    run.require_exported_weights(manifest)
    run.require_own_weights()
    plans = plan_rows(run, bundle, devices(options.device), threads)
    with working(reporter, "measuring"), run.folder.recording("figures"):
        test = load_test_split(run, reporter)
        flops = flops_per_image(record.backbone, len(record.labels), manifest.preprocessing.height)
        with prepared_inputs(test, manifest.preprocessing, options.accuracy_images, SEED, reporter) as inputs:
            before = watch.load()
            if (warned := warning(before)) is not None:
                reporter.line(warned)
            sweep = Sweep(plans, inputs, manifest.input, _settings(options), reporter)
            sweep.after_round = watch.sample
            outcomes = sweep.run()
            during = watch.load()
            setting = Setting(threads, inputs.count, flops, options.precision)
            further = _measure_further(bundle, outcomes, test, inputs, options, reporter)
            machine = machine_state(before, during, watch.load())
            rows = tuple(
                further.added(bench_row(one, setting, reference_of(outcomes, one.plan.device))) for one in outcomes
            )
        size = f"{manifest.preprocessing.height} x {manifest.preprocessing.width}"
        report = BenchReport(
            run=run.folder.name,
            model=f"{record.backbone}, {size}, {len(record.labels)} classes",
            data=record.data.source,
            rows=rows,
            seconds=clock.now() - start,
            provenance=provenance.collect(),
            machine=machine,
            peaks=peaks(outcomes, threads),
            flops_per_image=flops,
            test_fingerprint=inputs.fingerprint,
            test_split_fingerprint=test.fingerprint if inputs.count == len(test) else None,
            precision=options.precision,
            most_rounds=options.rounds,
            int8_dot_products=adds_in_32_bits(platform.machine(), processor_flags()),
        )
        report = with_reasons(report)
        report.save(run.folder.bench_file)
        record_benchmarks(run.folder.bundle, report)
    if further.stopped:
        reporter.line(
            f"the sweep was stopped after {len(further.found)} of {len(_artifacts(outcomes))} artifacts: what was "
            f"measured is kept in {run.folder.bench_file}, and 'toolkit report {run.folder.name}' writes the reports "
            "of it"
        )
        raise KeyboardInterrupt
    return report


def _artifacts(outcomes: Sequence[Outcome]) -> list[Plan]:
    """Return the artifacts that could be measured at all."""
    return [outcome.plan for outcome in outcomes if outcome.plan.artifact is not None and outcome.missing is None]


def _settings(options: BenchOptions) -> Settings:
    return Settings(
        batch_sizes=tuple(dict.fromkeys(options.batch_sizes)),
        rounds=options.rounds,
        min_seconds=options.min_seconds,
        seed=SEED,
        max_seconds=options.max_seconds,
        precision=options.precision,
    )


@dataclass(frozen=True)
class Further:
    """What else was measured of artifacts, by name and device of the row."""

    found: Mapping[tuple[str, str], Found]
    end_to_end: Mapping[tuple[str, str], EndToEnd]
    stopped: bool = False
    """Whether somebody stopped the sweep."""

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
    plans = _artifacts(outcomes)
    end_to_end: dict[tuple[str, str], EndToEnd] = {}
    if options.end_to_end and plans:
        files = image_files(test, inputs.folder / "files", SEED)
        asked = Asked(bundle.path, options.thread_count, options.allow_code, options.min_seconds)
        end_to_end = measure_end_to_end(plans, files, asked, reporter)
    found: dict[tuple[str, str], Found] = {}
    try:
        for key, one in (
            sweep_settings(plans, inputs, bundle.manifest.input, options, reporter) if options.sweep else ()
        ):
            found[key] = one
    except KeyboardInterrupt:
        return Further(found, end_to_end, stopped=True)
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
