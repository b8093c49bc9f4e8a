"""Measuring both sides now, in turns: what slows the machine slows both.

The engine is that of ``toolkit bench``. All processes are started anew several times, because where the memory of a
process happens to lie moves its speed by a per cent or so for as long as it lives, which no number of rounds tells.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit import provenance
from toolkit.bench import statistics
from toolkit.bench.inputs import Inputs, prepared_inputs
from toolkit.bench.job import Job
from toolkit.bench.options import BenchOptions
from toolkit.bench.rows import Plan, artifact_plan, devices
from toolkit.bench.stage import check_verified
from toolkit.bench.sweep import Outcome, Settings, Sweep
from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.bundle.manifest import InputContract
from toolkit.compare.paired import right_images
from toolkit.compare.ratios import least_rounds
from toolkit.comparison.sides import ALONE, Figures, Row, Scored, Side, Speed, model_of, parity_state
from toolkit.data.of_run import load_test_split, require_images
from toolkit.errors import RunError, ToolkitError
from toolkit.progress import Reporter, Silent
from toolkit.results import ComparedSide
from toolkit.run_folder import FinishedRun

STARTS = 20
"""How often all processes are started. Each is one witness in the exact test, which can be sure of ten thousand lines
at once by so many of them."""
ROUNDS = 40
"""Over all starts. More of one start say little that its first ones do not."""


@dataclass(frozen=True)
class Ready:
    """A side that can be measured."""

    plans: tuple[Plan, ...]
    inputs: Inputs
    contract: InputContract


@dataclass
class Measured:
    """What came of one row of one side."""

    plan: Plan
    missing: str | None = None
    rounds: dict[int, list[float]] = field(default_factory=dict)
    """Batch size to images per second of each round; round i is beside round i of the other side."""
    starts: dict[int, list[int]] = field(default_factory=dict)
    """Batch size to how many of the rounds each start made."""
    right: npt.NDArray[np.bool_] | None = None
    right_count: int = 0


def measure_together(
    a: Side,
    b: Side,
    options: BenchOptions,
    *,
    only: Collection[str] = (),
    starts: int = STARTS,
    reporter: Reporter | None = None,
) -> tuple[Figures, Figures]:
    """Measure the artifacts that both sides have, in interleaved rounds.

    Accuracy is measured where both are runs of the same test images.

    Args:
        a: a run or a bundle.
        b: another one, or the same.
        options: device, threads, batch sizes, and how long to measure.
        only: formats to measure; empty for all that both have.
        starts: how often all processes are started; the rounds are divided among them, and of fewer rounds each has
            a start of its own. With 1 the rounds are the witnesses, as if no two processes differed.
        reporter: where progress goes.

    Raises:
        ToolkitError: a side is a report alone, they have no artifact in common, or the rounds are too few for so many
            lines.
        RunError: a run has no bundle, or an artifact was not verified.
        BundleError: a bundle is malformed.
        IntegrityError: a file of a bundle was changed.
        DeviceError: there is no such device.
    """
    reporter, starts = reporter or Silent(), min(starts, options.rounds)
    bundles = tuple(_opened(side, options) for side in (a, b))
    common = [name for name in _common(*bundles) if not only or name in only]
    on, threads = devices(options.device), options.thread_count
    _require_rounds(options, starts, len(common) * len(on), scored=_test_images(a, b)[0] is not None)
    plans = tuple(
        tuple(artifact_plan(bundle, bundle.artifact(name), device, threads) for device in on for name in common)
        for bundle in bundles
    )
    with _prepared(a, b, bundles, reporter) as (inputs, test_images, remarks):
        ready = tuple(
            Ready(rows, images, bundle.manifest.input)
            for rows, images, bundle in zip(plans, inputs, bundles, strict=True)
        )
        count = inputs[0].count if test_images else 0
        measured = sweep_both(ready[0], ready[1], options, starts=starts, reporter=reporter)
    first, second = (
        Figures(
            about=_about(side, bundle),
            rows=tuple(_row(row, bundle, threads, count) for row in rows) + _alone(bundle, common, on, threads),
            test_images=test_images,
        )
        for side, bundle, rows in zip((a, b), bundles, measured, strict=True)
    )
    return replace(first, remarks=remarks), second


def sweep_both(
    a: Ready, b: Ready, options: BenchOptions, *, starts: int = STARTS, reporter: Reporter | None = None
) -> tuple[list[Measured], list[Measured]]:
    """Measure the same number of rows of two sides; row i of the one is beside row i of the other.

    Args:
        a: one side.
        b: the other one, with as many plans.
        options: batch sizes, rounds and their seconds; the rest is in the plans.
        starts: how often all processes are started. Accuracy is measured the first time.
        reporter: where progress goes.
    """
    results = ([Measured(plan) for plan in a.plans], [Measured(plan) for plan in b.plans])
    for start in range(starts):
        pairs = [pair for pair in zip(*results, strict=True) if pair[0].missing is None and pair[1].missing is None]
        if pairs:
            with _on_the_same_cores(a.plans + b.plans, options.thread_count, start):
                _one_start(pairs, (a, b), start, _settings(options, start, starts), reporter or Silent())
    return results


def speeds_of(measured: Measured) -> dict[int, Speed]:
    """Return what was measured of a row, by batch size."""
    return {
        size: Speed(statistics.estimate(rates), tuple(rates), starts=tuple(measured.starts.get(size, ())))
        for size, rates in measured.rounds.items()
        if rates
    }


def _one_start(
    pairs: Sequence[tuple[Measured, Measured]],
    sides: tuple[Ready, Ready],
    start: int,
    settings: Settings,
    reporter: Reporter,
) -> None:
    """Start every process, measure all rows in turns, and add what came of it."""
    plans_a, plans_b = ([_titled(pair[at].plan, side) for pair in pairs] for at, side in enumerate("AB"))
    inputs = sides[0].inputs if start == 0 else replace(sides[0].inputs, count=1)  # one look at accuracy is enough
    # What is started first is a little slower, by up to a per cent: each side is so at every other start.
    b_first = start % 2 == 1
    sweep = _BothSides(
        plans_b + plans_a if b_first else plans_a + plans_b, inputs, sides[0].contract, settings, reporter
    )
    sweep.of_b, sweep.b = {id(plan) for plan in plans_b}, sides[1]
    outcomes = sweep.run()
    of_a, of_b = outcomes[: len(pairs)], outcomes[len(pairs) :]
    if b_first:
        of_a, of_b = of_b, of_a
    for pair, both in zip(pairs, zip(of_a, of_b, strict=True), strict=True):
        for row, outcome in zip(pair, both, strict=True):
            row.missing = outcome.missing
            if start == 0 and outcome.missing is None:
                row.right, row.right_count = _right(outcome, inputs.count)
        if any(outcome.missing is not None for outcome in both):
            continue
        first, second = (_rounds(outcome) for outcome in both)
        for size in first:
            rates = [
                [statistics.throughput(size, seconds) for seconds in rounds] for rounds in (first[size], second[size])
            ]
            for row, values in zip(pair, rates, strict=True):
                # Round i of both was measured in the same minute.
                shared = values[: min(map(len, rates))]
                row.rounds.setdefault(size, []).extend(shared)
                row.starts.setdefault(size, []).append(len(shared))


@contextlib.contextmanager
def _on_the_same_cores(plans: Sequence[Plan], threads: int, start: int) -> Iterator[None]:
    """Keep processes that are started in the block on as many cores as they have threads, others at each start.

    Cores are not alike where their other halves belong to somebody else: a side that happened to run on the busy one
    would be called slower. Where the threads fill all cores there is nothing to choose, and a system that cannot do it
    measures without.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if threads >= len(cores) or any(plan.device != "cpu" for plan in plans):
        yield
        return
    chosen = {cores[(start * threads + number) % len(cores)] for number in range(threads)}
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class _BothSides(Sweep):
    """A sweep whose second half of rows has images and an input of its own."""

    of_b: set[int]
    """Identities of B's plans."""
    b: Ready

    def _job(self, plan: Plan) -> Job:
        job = super()._job(plan)
        if id(plan) not in self.of_b:
            return job
        inputs = self.b.inputs
        return job.model_copy(
            update={"images": str(inputs.images), "targets": str(inputs.targets), "contract": self.b.contract}
        )


def _settings(options: BenchOptions, start: int, starts: int) -> Settings:
    """Return how one start measures: as many rounds as were asked for, so that chance cannot decide when to stop."""
    return Settings(
        batch_sizes=tuple(dict.fromkeys(options.batch_sizes)),
        rounds=-(-options.rounds // starts),
        min_seconds=options.min_seconds,
        seed=start,
    )


def _rounds(outcome: Outcome) -> Mapping[int, list[list[float]]]:
    """Return per-call seconds of each round by batch size."""
    return {size: timed.rounds for size, timed in outcome.timed.items()}


def _right(outcome: Outcome, images: int) -> tuple[npt.NDArray[np.bool_], int]:
    """Return which of so many test images were classified rightly, and how many."""
    right = right_images(outcome.correct.hex(), images)
    return right, int(right.sum())


def _titled(plan: Plan, side: str) -> Plan:
    return replace(plan, name=f"{side} {plan.name}")


def _opened(side: Side, options: BenchOptions) -> Bundle:
    if side.kind == "report":
        raise ToolkitError(f"{side.given} is a report, which cannot be measured: give its run or a bundle.")
    if side.bundle is None and side.run is not None:
        side.run.exported()  # says which command comes next
    if side.bundle is None:
        raise RunError(f"{side.given} has no bundle: run 'toolkit export' first.")
    bundle = Bundle.open(side.bundle, allow_code=options.allow_code)
    check_verified(bundle)
    return bundle


def _common(a: Bundle, b: Bundle) -> list[str]:
    of_a, of_b = ([artifact.format for artifact in bundle.manifest.artifacts] for bundle in (a, b))
    common = [name for name in of_a if name in of_b]
    if not common:
        raise ToolkitError(
            f"the two have no format in common (A: {', '.join(of_a) or 'none'}; B: {', '.join(of_b) or 'none'}): "
            "export both with the same --formats."
        )
    return common


def _require_rounds(options: BenchOptions, starts: int, rows: int, *, scored: bool) -> None:
    """Refuse rounds after which nothing could be called, before minutes are spent on them."""
    lines = rows * (len(set(options.batch_sizes)) + scored)
    least = least_rounds(lines)
    if (starts if starts > 1 else options.rounds) < least:
        raise ToolkitError(
            f"{options.rounds} rounds are too few to be sure of {lines} lines at once: give --rounds {least} or more, "
            "or compare less (--only, --batch-sizes)."
        )


def _alone(bundle: Bundle, common: Sequence[str], on: Sequence[str], threads: int) -> tuple[Row, ...]:
    """Return the artifacts that the other side has not."""
    return tuple(
        _facts(artifact, device, threads, missing=ALONE)
        for device in on
        for artifact in bundle.manifest.artifacts
        if artifact.format not in common
    )


def _facts(artifact: ArtifactRecord, device: str, threads: int, missing: str | None) -> Row:
    return Row(
        name=artifact.format,
        device=device,
        threads=threads,
        missing=missing,
        sha256=artifact.sha256,
        size_bytes=artifact.total_bytes,
        parity=parity_state(artifact),
    )


def _row(measured: Measured, bundle: Bundle, threads: int, images: int) -> Row:
    facts = _facts(bundle.artifact(measured.plan.name), measured.plan.device, threads, measured.missing)
    if measured.missing is not None:
        return facts
    scored = Scored(measured.right_count / images, images, measured.right) if images else None
    return replace(facts, speeds=speeds_of(measured), scored=scored)


def _about(side: Side, bundle: Bundle) -> ComparedSide:
    now, manifest = provenance.collect(), bundle.manifest
    return ComparedSide(
        kind=side.kind,
        name=side.run.name if side.kind == "run" and side.run is not None else manifest.origin.run,
        model=model_of(manifest),
        data=manifest.origin.data,
        measured=now.created,
        processor=now.hardware.processor,
        cores=now.hardware.cores,
        gpu=now.hardware.gpu,
        packages=now.packages,
    )


@contextlib.contextmanager
def _prepared(
    a: Side, b: Side, bundles: tuple[Bundle, ...], reporter: Reporter
) -> Iterator[tuple[tuple[Inputs, ...], str | None, tuple[str, ...]]]:
    """Yield the images of each side, the digest of the test images if it is these, and what there is to say of it."""
    with contextlib.ExitStack() as stack:
        test, why = _test_images(a, b)
        if test is None:
            folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toolkit-compare-"))) for _ in "AB"]
            golden = tuple(_golden(bundle, folder) for bundle, folder in zip(bundles, folders, strict=True))
            yield golden, None, (f"accuracy was not measured, and speed on the golden samples: {why}",)
            return
        split = load_test_split(test, reporter)
        inputs = tuple(
            stack.enter_context(prepared_inputs(split, bundle.manifest.preprocessing, None, 0, reporter))
            for bundle in bundles
        )
        yield inputs, split.fingerprint, ()


def _test_images(a: Side, b: Side) -> tuple[FinishedRun | None, str]:
    """Return a run whose test images both sides were made with, or why there is none."""
    if a.kind != "run" or b.kind != "run" or a.run is None or b.run is None:
        return None, "only runs have test images"
    first, second = FinishedRun.of(a.run), FinishedRun.of(b.run)
    if first.record.data.splits["test"].fingerprint != second.record.data.splits["test"].fingerprint:
        return None, "the two runs have other test images"
    if first.record.labels != second.record.labels:
        return None, "the two runs have other classes"
    for run in (first, second):
        try:
            require_images(run)
        except RunError:
            continue
        return run, ""
    return None, "their test images are no longer where the runs read them"


def _golden(bundle: Bundle, folder: Path) -> Inputs:
    """Write the golden samples where workers find them; their classes are not needed."""
    inputs = Inputs(folder=folder, images=folder / "images.npy", targets=folder / "targets.npy", count=1)
    images = bundle.golden_images()
    np.save(inputs.images, images)
    np.save(inputs.targets, np.zeros(len(images), np.int64))
    return inputs
