"""The gate that an artifact must pass: the outputs of the reference on every input, at every batch size, every time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.bundle.manifest import ArtifactRecord
from toolkit.compare.consistency import difference, inconsistency
from toolkit.compare.rounding import ROUNDOFF, compare_rounding, rounding_failure
from toolkit.compare.scores import Scores, score
from toolkit.compare.verdict import OUTPUTS, Comparison, Outputs, Verdict
from toolkit.formats.base import Session
from toolkit.provenance import available_cores
from toolkit.results import ArtifactParity, Flip, Rounding, Tolerance
from toolkit.verify.candidate import CannotRunError, Checks, open_session, run_outputs, run_session
from toolkit.verify.expected import Expected, Judgement
from toolkit.verify.inputs import BATCH_SIZES, MAIN_BATCH, OTHER_BATCHES, Batch, Images, batches
from toolkit.verify.invariance import Invariance
from toolkit.verify.value_range import examine_ranges

NOTHING = Verdict((), (), ())
"""Of an artifact that could not run at all: its failures say why."""


@dataclass
class _Found:
    """Everything that is found out about one artifact, check by check."""

    checks: Checks = field(default_factory=Checks)
    session: Session | None = None
    verdict: Verdict = NOTHING
    """Of every input once, at ``MAIN_BATCH``."""
    other_flips: tuple[Flip, ...] = ()
    """At the other batch sizes."""
    scores: Scores | None = None
    rounding: Rounding | None = None
    bitwise: bool | None = None


def planned_inputs(judgement: Judgement) -> int:
    """Return how many inputs ``verify_artifact`` reports as run in the end."""
    return sum(len(batch.rows) for batch in batches(judgement.inputs.test_images, judgement.inputs.edge_inputs))


def verify_artifact(
    opened: Callable[[int], Session],
    artifact: ArtifactRecord,
    judgement: Judgement,
    tolerance: Tolerance,
    *,
    device: str = "cpu",
    threads: int = 1,
    file: Path | None = None,
    on_batch: Callable[[int], None] = lambda _: None,
) -> ArtifactParity:
    """Compare one artifact with the reference, with the golden samples and with itself.

    Whatever the artifact does wrong, raising included, is a failure in the record and not an exception.

    Args:
        opened: opens the artifact with a number of threads, the way a service does.
        artifact: its entry in the manifest.
        judgement: inputs and what is expected of them.
        tolerance: what is allowed.
        device: where it was asked to run.
        threads: how many threads it was asked to use.
        file: where it is; what only shows inside the graph is looked at where this is given.
        on_batch: called with the number of inputs after each batch.

    Raises:
        DeviceError: the device cannot be used here, so that nothing can be said of the artifact.
        MissingDependencyError: the artifact's engine is not installed.
    """
    started = time.perf_counter()
    found = _Found()
    with found.checks.check("opens") as finding:
        session = open_session(opened, threads)
        found.session = session
        finding.detail = f"{session.engine} on {session.device}"
        if session.device != device:
            finding.failures.append(f"it was asked to run on {device} and runs on {session.device}")
    if found.session is not None:
        _judge(found, found.session, judgement, tolerance, opened, on_batch)
        if file is not None:
            _range(found, found.session, judgement, tolerance, file)
    return _record(found, artifact, judgement, tolerance, device, threads, time.perf_counter() - started)


def _judge(
    found: _Found,
    session: Session,
    judgement: Judgement,
    tolerance: Tolerance,
    opened: Callable[[int], Session],
    on_batch: Callable[[int], None],
) -> None:
    _identity(found, session, judgement)
    own = _all_inputs(found, session, judgement, tolerance, on_batch)
    runs_somewhere = _other_sizes(found, session, judgement, tolerance, own, on_batch)
    if own is None and not runs_somewhere:
        return
    if own is not None:
        _agreement(found, judgement, tolerance, own)
        _rounding(found, judgement, tolerance, own)
    if judgement.golden is not None:
        _golden(found, session, judgement, judgement.golden, tolerance)
    if judgement.unknown is not None:
        _unknown(found, session, judgement, judgement.unknown)
    if own is not None:
        invariance = Invariance(session, judgement.contract, own, tolerance, found.checks)
        invariance.batches()
        found.bitwise = invariance.repeats()
        invariance.state()
        others = tuple(sorted({1, available_cores()} - {session.threads}))
        if others and session.device == "cpu":
            invariance.threads(opened, others)


def _identity(found: _Found, session: Session, judgement: Judgement) -> None:
    """Compare what the file says of itself with what the manifest says.

    An old file beside a new manifest shows here.
    """
    stored = getattr(session, "metadata", None)
    common = {key: value for key, value in judgement.metadata.items() if stored and key in stored}
    if not stored or not common:
        return
    with found.checks.check("identity") as finding:
        different = [
            key.removeprefix("toolkit.") for key, value in common.items() if not _says_the_same(stored[key], value)
        ]
        finding.failures += [f"the file itself says another {key} than the manifest" for key in different]
        finding.detail = f"{len(common)} entries inside the file"


def _says_the_same(stored: str, manifest: str) -> bool:
    """Compare two entries; of records only the fields that both have, because a newer toolkit may know more of them."""
    try:
        first, second = json.loads(stored), json.loads(manifest)
    except ValueError:
        return stored == manifest
    if isinstance(first, dict) and isinstance(second, dict):
        return all(first[key] == second[key] for key in first.keys() & second.keys())
    return bool(first == second)


def _compare(
    comparison: Comparison, session: Session, judgement: Judgement, expected: Expected, rows: tuple[int, ...]
) -> Outputs | None:
    outputs = run_session(session, judgement.contract, expected.images[list(rows)])
    truths = [expected.true_labels[row] for row in rows] if expected.true_labels else None
    return comparison.add([expected.names[row] for row in rows], expected.rows(rows), outputs, truths)


def _all_inputs(
    found: _Found, session: Session, judgement: Judgement, tolerance: Tolerance, on_batch: Callable[[int], None]
) -> Expected | None:
    """Run every input once.

    Return what the artifact says of all of them, None if it cannot or its outputs have the wrong form.
    """
    comparison = Comparison(judgement.labels, tolerance)
    shape = (len(judgement.inputs.names), len(judgement.labels))
    collected: dict[str, npt.NDArray[np.float32]] = {name: np.empty(shape, np.float32) for name in OUTPUTS}
    complete = True
    with found.checks.check("outputs") as finding:
        cannot: CannotRunError | None = None
        for batch in batches(judgement.inputs.test_images, judgement.inputs.edge_inputs, (MAIN_BATCH,)):
            on_batch(len(batch.rows))
            if cannot is not None:
                continue
            try:
                outputs = _compare(comparison, session, judgement, judgement.reference, batch.rows)
            except CannotRunError as error:
                # One failure says enough, and an engine may take long to fail.
                cannot = error
                continue
            complete = complete and outputs is not None
            for name, values in (outputs or {}).items():
                collected[name][list(batch.rows)] = values
        if cannot is not None:
            raise cannot
        found.verdict = comparison.verdict()
        finding.failures += found.verdict.failures
        finding.detail = _detail(found.verdict, judgement)
    if not found.verdict.outputs or not complete:
        return None
    return Expected(judgement.inputs.names, judgement.inputs.images, collected)


def _detail(verdict: Verdict, judgement: Judgement) -> str:
    errors = ", ".join(f"{output.output} {output.statistics.max_absolute:.1e}" for output in verdict.outputs)
    return (
        f"{judgement.inputs.test_images} test images and {judgement.inputs.edge_inputs} edge inputs, largest errors: "
        f"{errors or 'none'}"
    )


def _other_sizes(
    found: _Found,
    session: Session,
    judgement: Judgement,
    tolerance: Tolerance,
    own: Expected | None,
    on_batch: Callable[[int], None],
) -> bool:
    """Run some inputs at each other batch size; return whether it runs at one at least."""
    given_up: set[int] = set()
    comparison = Comparison(judgement.labels, tolerance)
    worst = 0.0
    with found.checks.check("batch sizes") as finding:
        for batch in batches(judgement.inputs.test_images, judgement.inputs.edge_inputs, tuple(sorted(OTHER_BATCHES))):
            on_batch(len(batch.rows))
            if batch.batch_size in given_up:
                continue
            try:
                outputs = _compare(comparison, session, judgement, judgement.reference, batch.rows)
            except CannotRunError as error:
                given_up.add(batch.batch_size)
                finding.failures.append(str(error))
                continue
            if own is not None and outputs is not None:
                worst = max(worst, _against_own(batch, own, outputs, tolerance, finding.failures))
        if given_up != set(OTHER_BATCHES):
            verdict = comparison.verdict()
            found.other_flips = verdict.flips
            finding.failures += verdict.failures
        finding.detail = (
            f"{', '.join(map(str, sorted(OTHER_BATCHES)))}; largest difference from batches of {MAIN_BATCH}: "
            f"{worst:.1e}"
        )
    return given_up != set(OTHER_BATCHES)


def _against_own(batch: Batch, own: Expected, outputs: Outputs, tolerance: Tolerance, failures: list[str]) -> float:
    """Compare a batch with what the artifact said at ``MAIN_BATCH``; one failure per size is kept."""
    seen = difference([own.names[row] for row in batch.rows], own.rows(batch.rows), outputs)
    said = f"between batches of {MAIN_BATCH} and of {batch.batch_size}"
    if not any(said in failure for failure in failures):
        failures += inconsistency(seen, tolerance, said)
    return seen.error


def _agreement(found: _Found, judgement: Judgement, tolerance: Tolerance, own: Expected) -> None:
    images = judgement.inputs.test_images
    with found.checks.check("agreement") as finding:
        reference, actual = (
            {name: values[:images] for name, values in side.outputs.items()} for side in (judgement.reference, own)
        )
        scores = score(reference, actual, judgement.inputs.targets, judgement.labels, tolerance)
        found.scores = scores
        finding.failures += scores.failures
        change = f", accuracy {scores.accuracy.difference:+.2%}" if scores.accuracy else ""
        finding.detail = (
            f"top-1 {scores.top1_agreement:.2%} of {images} test images, divergence {scores.divergence.mean:.1e} "
            f"nats{change}"
        )


def _rounding(found: _Found, judgement: Judgement, tolerance: Tolerance, own: Expected) -> None:
    """Judge the typical error by what rounding costs in this network.

    A GPU rounds products as its own mode says, so it is not judged by this.
    """
    exact, precision = judgement.exact, tolerance.precision
    if (
        exact is None
        or found.session is None
        or found.session.device != "cpu"
        or precision not in exact.rounding
        or precision not in ROUNDOFF
    ):
        return
    with found.checks.check("rounding") as finding:
        logits = own.outputs["logits"][list(exact.rows)]
        found.rounding = compare_rounding(exact.logits, logits, exact.rounding[precision], precision)
        finding.failures += rounding_failure(found.rounding, tolerance)
        finding.detail = (
            f"{found.rounding.ratio:.2f} times the rounding error of PyTorch in {precision} "
            f"({found.rounding.reference:.1e})"
        )


def _range(found: _Found, session: Session, judgement: Judgement, tolerance: Tolerance, file: Path) -> None:
    """Look at the values inside a file of low precision.

    What they lose does not always show in the outputs, see ``examine_ranges``.
    """
    if session.device != "cpu" or file.suffix != ".onnx":
        return
    started = Checks()
    with started.check("range") as finding:
        seen = examine_ranges(file, tolerance, judgement.contract, judgement.inputs, session.threads)
        if seen is None:
            return
        finding.failures += seen.failures
        finding.detail = seen.detail
    found.checks.done += started.done


def _golden(found: _Found, session: Session, judgement: Judgement, golden: Expected, tolerance: Tolerance) -> None:
    with found.checks.check("golden samples") as finding:
        comparison = Comparison(judgement.labels, tolerance)
        outputs = _compare(comparison, session, judgement, golden, tuple(range(len(golden.names))))
        finding.failures += comparison.verdict().failures
        if outputs is not None:
            finding.failures += score(golden.outputs, outputs, None, judgement.labels, tolerance).failures
        finding.detail = f"{len(golden.names)} samples that the bundle holds"


def _unknown(found: _Found, session: Session, judgement: Judgement, images: Images) -> None:
    with found.checks.check("edge inputs") as finding:
        outputs = run_outputs(session, judgement.contract, images)
        bad = [name for name, values in outputs.items() if not np.isfinite(values).all()]
        finding.failures += [f"{name} of an edge input hold NaN or an infinity" for name in bad]
        finding.detail = (
            f"{len(images)} inputs that no photograph resembles: finite or not, for no reference is at hand"
        )


def _record(
    found: _Found,
    artifact: ArtifactRecord,
    judgement: Judgement,
    tolerance: Tolerance,
    device: str,
    threads: int,
    seconds: float,
) -> ArtifactParity:
    session, scores = found.session, found.scores
    failures = found.checks.failures()
    return ArtifactParity(
        artifact=artifact.format,
        file=artifact.file,
        sha256=artifact.sha256,
        passed=not failures,
        failures=failures,
        device=session.device if session else device,
        engine=session.engine if session else "none: it cannot be opened",
        threads=session.threads if session else threads,
        test_images=judgement.inputs.test_images if session else 0,
        edge_inputs=judgement.inputs.edge_inputs if session else 0,
        batch_sizes=BATCH_SIZES if session else (),
        outputs=found.verdict.outputs,
        top1_agreement=scores.top1_agreement if scores else None,
        flips=found.verdict.flips + found.other_flips,
        tolerance=tolerance,
        seconds=seconds,
        checks=tuple(found.checks.done),
        top5_agreement=scores.top5_agreement if scores else None,
        divergence=scores.divergence if scores else None,
        accuracy=scores.accuracy if scores else None,
        rounding=found.rounding,
        bitwise_repeatable=found.bitwise,
    )
