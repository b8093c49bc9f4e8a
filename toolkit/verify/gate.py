"""The gate that an artifact must pass: the outputs of the reference on every input, at every batch size, every time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.compare.consistency import difference, inconsistency
from toolkit.compare.golden import judged_by_class, narrower, score_golden, usual_limits
from toolkit.compare.rounding import ROUNDOFF, compare_rounding, rounding_failure, rounding_notes
from toolkit.compare.scores import Scores, score
from toolkit.compare.verdict import OUTPUTS, Comparison, Outputs, Verdict
from toolkit.formats.base import Session
from toolkit.provenance import available_cores
from toolkit.results import ArtifactParity, Flip, Rounding, Tolerance
from toolkit.verify.candidate import Candidate, CannotRunError, Checks, open_session, run_outputs, run_session
from toolkit.verify.expected import Expected, GoldenExpected, Judgement
from toolkit.verify.inputs import BATCH_SIZES, MAIN_BATCH, OTHER_BATCHES, Batch, Images, batches
from toolkit.verify.invariance import Invariance
from toolkit.verify.value_range import examine_ranges

NOTHING = Verdict((), (), ())
"""Of an artifact that could not run at all: its failures say why."""


def planned_inputs(judgement: Judgement) -> int:
    """Return how many inputs ``verify_artifact`` reports as run in the end."""
    return sum(len(batch.rows) for batch in batches(judgement.inputs.test_images, judgement.inputs.edge_inputs))


def verify_artifact(
    candidate: Candidate,
    judgement: Judgement,
    on_batch: Callable[[int], None] = lambda _: None,
    on_check: Callable[[str], None] = lambda _: None,
) -> ArtifactParity:
    """Compare one artifact with the reference, with the golden samples and with itself.

    Whatever the artifact does wrong, raising included, is a failure in the record and not an exception.

    Args:
        candidate: the artifact, how it is run and what is allowed.
        judgement: inputs and what is expected of them.
        on_batch: called with the number of inputs after each batch.
        on_check: called with the name of each check before it.

    Raises:
        DeviceError: the device cannot be used here, so that nothing can be said of the artifact.
        MissingDependencyError: the artifact's engine is not installed.
    """
    started = time.perf_counter()
    gate = _Gate(candidate, judgement, on_batch, Checks(on_check))
    gate.run()
    return gate.record(time.perf_counter() - started)


@dataclass
class _Gate:
    """One artifact on its way through: what it is judged by, and what is found out about it, check by check."""

    candidate: Candidate
    judgement: Judgement
    on_batch: Callable[[int], None]
    checks: Checks
    session: Session | None = None
    verdict: Verdict = NOTHING
    """Of every input once, at ``MAIN_BATCH``."""
    own: Expected | None = None
    """What the artifact says of every input at ``MAIN_BATCH``; None if it cannot or its outputs have the wrong form."""
    other_flips: tuple[Flip, ...] = ()
    """At the other batch sizes."""
    scores: Scores | None = None
    rounding: Rounding | None = None
    bitwise: bool | None = None
    notes: tuple[str, ...] = ()
    """What there is to say of limits beside ``Candidate.limits``."""

    @property
    def tolerance(self) -> Tolerance:
        """What is allowed."""
        return self.candidate.tolerance

    def run(self) -> None:
        """Open the artifact and, where it opens, do all checks."""
        with self.checks.check("opens") as finding:
            session = open_session(self.candidate.opened, self.candidate.threads)
            self.session = session
            finding.detail = f"{session.engine} on {session.device}"
            if session.device != self.candidate.device:
                finding.failures.append(f"it was asked to run on {self.candidate.device} and runs on {session.device}")
        if self.session is not None:
            self._judge(self.session)
            self._range(self.session)

    def _judge(self, session: Session) -> None:
        self._identity(session)
        self._all_inputs(session)
        runs_somewhere = self._other_sizes(session)
        if self.own is None and not runs_somewhere:
            return
        if self.own is not None:
            self._agreement(self.own)
            self._rounding(session, self.own)
        if self.judgement.golden is not None:
            self._golden(session, self.judgement.golden)
        if self.judgement.unknown is not None:
            self._unknown(session, self.judgement.unknown)
        if self.own is not None:
            self._invariance(session, self.own)

    def _identity(self, session: Session) -> None:
        """Compare what the file says of itself with what the manifest says.

        An old file beside a new manifest shows here.
        """
        stored = getattr(session, "metadata", None)
        common = {key: value for key, value in self.judgement.metadata.items() if stored and key in stored}
        if not stored or not common:
            return
        with self.checks.check("identity") as finding:
            different = [
                key.removeprefix("toolkit.") for key, value in common.items() if not _says_the_same(stored[key], value)
            ]
            finding.failures += [f"the file itself says another {key} than the manifest" for key in different]
            finding.detail = f"{len(common)} entries inside the file"

    def _all_inputs(self, session: Session) -> None:
        """Run every input once, and keep what the artifact says of them."""
        judgement, inputs = self.judgement, self.judgement.inputs
        comparison = Comparison(judgement.labels, self.tolerance)
        shape = (len(inputs.names), len(judgement.labels))
        collected: dict[str, npt.NDArray[np.float32]] = {name: np.empty(shape, np.float32) for name in OUTPUTS}
        complete = True
        with self.checks.check("outputs") as finding:
            cannot: CannotRunError | None = None
            for batch in batches(inputs.test_images, inputs.edge_inputs, (MAIN_BATCH,)):
                self.on_batch(len(batch.rows))
                if cannot is not None:
                    continue
                try:
                    outputs = self._compare(comparison, session, judgement.reference, batch.rows)
                except CannotRunError as error:
                    # One failure says enough, and an engine may take long to fail.
                    cannot = error
                    continue
                complete = complete and outputs is not None
                for name, values in (outputs or {}).items():
                    collected[name][list(batch.rows)] = values
            if cannot is not None:
                raise cannot
            self.verdict = comparison.verdict()
            finding.failures += self.verdict.failures
            finding.detail = _detail(self.verdict, judgement)
        if self.verdict.outputs and complete:
            self.own = Expected(inputs.names, inputs.images, collected)

    def _compare(
        self, comparison: Comparison, session: Session, expected: Expected, rows: tuple[int, ...]
    ) -> Outputs | None:
        outputs = run_session(session, self.judgement.contract, expected.images[list(rows)])
        truths = [expected.true_labels[row] for row in rows] if expected.true_labels else None
        return comparison.add([expected.names[row] for row in rows], expected.rows(rows), outputs, truths)

    def _other_sizes(self, session: Session) -> bool:
        """Run some inputs at each other batch size; return whether it runs at one at least."""
        inputs = self.judgement.inputs
        given_up: set[int] = set()
        comparison = Comparison(self.judgement.labels, self.tolerance)
        worst = 0.0
        with self.checks.check("batch sizes") as finding:
            for batch in batches(inputs.test_images, inputs.edge_inputs, tuple(sorted(OTHER_BATCHES))):
                self.on_batch(len(batch.rows))
                if batch.batch_size in given_up:
                    continue
                try:
                    outputs = self._compare(comparison, session, self.judgement.reference, batch.rows)
                except CannotRunError as error:
                    given_up.add(batch.batch_size)
                    finding.failures.append(str(error))
                    continue
                if self.own is not None and outputs is not None:
                    worst = max(worst, self._from_own(batch, self.own, outputs, finding.failures))
            if given_up != set(OTHER_BATCHES):
                verdict = comparison.verdict()
                self.other_flips = verdict.flips
                finding.failures += verdict.failures
            finding.detail = (
                f"{', '.join(map(str, sorted(OTHER_BATCHES)))}; largest difference from batches of {MAIN_BATCH}: "
                f"{worst:.1e}"
            )
        return given_up != set(OTHER_BATCHES)

    def _from_own(self, batch: Batch, own: Expected, outputs: Outputs, failures: list[str]) -> float:
        """Compare a batch with what the artifact said at ``MAIN_BATCH``; one failure per size is kept."""
        deviation = difference([own.names[row] for row in batch.rows], own.rows(batch.rows), outputs)
        sizes = f"between batches of {MAIN_BATCH} and of {batch.batch_size}"
        if not any(sizes in failure for failure in failures):
            failures += inconsistency(deviation, self.tolerance, sizes)
        return deviation.error

    def _agreement(self, own: Expected) -> None:
        judgement, images = self.judgement, self.judgement.inputs.test_images
        with self.checks.check("agreement") as finding:
            reference, actual = (
                {name: values[:images] for name, values in side.outputs.items()} for side in (judgement.reference, own)
            )
            scores = score(reference, actual, judgement.inputs.targets, judgement.labels, self.tolerance)
            self.scores = scores
            finding.failures += scores.failures
            change = f", accuracy {scores.accuracy.difference:+.2%}" if scores.accuracy else ""
            finding.detail = (
                f"top-1 {scores.top1_agreement:.2%} of {images} test images, divergence {scores.divergence.mean:.1e} "
                f"nats{change}"
            )

    def _rounding(self, session: Session, own: Expected) -> None:
        """Judge the typical error by what rounding costs in this network.

        A GPU rounds products as its own mode says, so it is not judged by this.
        """
        exact, precision = self.judgement.exact, self.tolerance.precision
        if exact is None or session.device != "cpu" or precision not in exact.rounding or precision not in ROUNDOFF:
            return
        with self.checks.check("rounding") as finding:
            logits = own.outputs["logits"][list(exact.rows)]
            self.rounding = compare_rounding(exact.logits, logits, exact.rounding[precision], precision)
            finding.failures += rounding_failure(self.rounding, self.tolerance)
            self.notes += rounding_notes(self.rounding.reference, self.tolerance)
            finding.detail = (
                f"{self.rounding.ratio:.2f} times the rounding error of PyTorch in {precision} "
                f"({self.rounding.reference:.1e})"
            )

    def _golden(self, session: Session, golden: GoldenExpected) -> None:
        """Run the golden samples; an artifact that is judged by its classes is held to the limits beside them."""
        images, tolerance = golden.test_images, self.tolerance
        with self.checks.check("golden samples") as finding:
            comparison = Comparison(self.judgement.labels, tolerance)
            outputs = self._compare(comparison, session, golden, tuple(range(len(golden.names))))
            finding.failures += comparison.verdict().failures
            if outputs is not None and judged_by_class(tolerance):
                own = golden.limits.get(self.candidate.artifact.file)
                limits = narrower(usual_limits(golden.outputs, images, tolerance), own)
                finding.failures += score_golden(golden.outputs, outputs, images, limits).failures
            elif outputs is not None:
                real, given = (
                    {name: values[:images] for name, values in side.items()} for side in (golden.outputs, outputs)
                )
                finding.failures += score(real, given, None, self.judgement.labels, tolerance).failures
            edges = f", {golden.edge_inputs} of them edge inputs" if golden.edge_inputs else ""
            finding.detail = f"{len(golden.names)} samples that the bundle holds{edges}"

    def _unknown(self, session: Session, images: Images) -> None:
        with self.checks.check("edge inputs") as finding:
            outputs = run_outputs(session, self.judgement.contract, images)
            bad = [name for name, values in outputs.items() if not np.isfinite(values).all()]
            finding.failures += [f"{name} of an edge input hold NaN or an infinity" for name in bad]
            finding.detail = (
                f"{len(images)} inputs that no photograph resembles: finite or not, for no reference is at hand"
            )

    def _invariance(self, session: Session, own: Expected) -> None:
        invariance = Invariance(session, self.judgement.contract, own, self.tolerance, self.checks)
        invariance.batches()
        self.bitwise = invariance.repeats()
        invariance.state()
        others = tuple(sorted({1, available_cores()} - {session.threads}))
        if others and session.device == "cpu":
            invariance.threads(self.candidate.opened, others)

    def _range(self, session: Session) -> None:
        """Look at the values inside a file of low precision.

        What they lose does not always show in the outputs, see ``examine_ranges``.
        """
        candidate, judgement = self.candidate, self.judgement
        if session.device != "cpu" or candidate.content is None or candidate.narrow_type is None:
            return
        started = Checks(self.checks.begins)
        with started.check("range") as finding, candidate.content().as_files() as file:
            ranges = examine_ranges(
                file,
                candidate.narrow_type,
                self.tolerance,
                judgement.contract,
                judgement.inputs,
                session.threads,
            )
            if ranges is None:
                return
            finding.failures += ranges.failures
            finding.detail = ranges.detail
        self.checks.done += started.done

    def record(self, seconds: float) -> ArtifactParity:
        """Return everything that was found out."""
        candidate, session, scores, inputs = self.candidate, self.session, self.scores, self.judgement.inputs
        failures = self.checks.failures()
        return ArtifactParity(
            artifact=candidate.artifact.format,
            file=candidate.artifact.file,
            sha256=candidate.artifact.sha256,
            passed=not failures,
            failures=failures,
            device=session.device if session else candidate.device,
            engine=session.engine if session else "none: it cannot be opened",
            threads=session.threads if session else candidate.threads,
            test_images=inputs.test_images if session else 0,
            edge_inputs=inputs.edge_inputs if session else 0,
            batch_sizes=BATCH_SIZES if session else (),
            outputs=self.verdict.outputs,
            top1_agreement=scores.top1_agreement if scores else None,
            flips=self.verdict.flips + self.other_flips,
            tolerance=self.tolerance,
            seconds=seconds,
            checks=tuple(self.checks.done),
            top5_agreement=scores.top5_agreement if scores else None,
            divergence=scores.divergence if scores else None,
            accuracy=scores.accuracy if scores else None,
            rounding=self.rounding,
            bitwise_repeatable=self.bitwise,
            limits=candidate.limits + self.notes,
        )


def _says_the_same(stored: str, manifest: str) -> bool:
    """Compare two entries; of records only the fields that both have, because a newer toolkit may know more of them."""
    try:
        first, second = json.loads(stored), json.loads(manifest)
    except ValueError:
        return stored == manifest
    if isinstance(first, dict) and isinstance(second, dict):
        return all(first[key] == second[key] for key in first.keys() & second.keys())
    return bool(first == second)


def _detail(verdict: Verdict, judgement: Judgement) -> str:
    errors = ", ".join(f"{output.output} {output.statistics.max_absolute:.1e}" for output in verdict.outputs)
    return (
        f"{judgement.inputs.test_images} test images and {judgement.inputs.edge_inputs} edge inputs, largest errors: "
        f"{errors or 'none'}"
    )
