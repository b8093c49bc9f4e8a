"""A bundle runs its own golden samples: the small check that needs neither PyTorch nor the run.

Numpy and the artifact's engine only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.bundle.limits import limits_of
from toolkit.bundle.manifest import Golden, GoldenCase
from toolkit.compare.golden import judged_by_class, narrower, score_golden, usual_limits
from toolkit.compare.rounding import ROUNDOFF, compare_rounding, rounding_failure, rounding_notes
from toolkit.compare.tolerances import TOLERANCES, Limits
from toolkit.compare.verdict import OUTPUTS, Comparison, Outputs, Verdict
from toolkit.errors import (
    MOST_THREADS,
    DeviceError,
    ExportError,
    MissingDependencyError,
    UntrustedCodeError,
    first_line,
    require_count,
)
from toolkit.formats.base import Session
from toolkit.formats.opening import open_artifact
from toolkit.formats.registry import get_format
from toolkit.results import Tolerance


@dataclass(frozen=True)
class Selftest:
    """What became of the golden samples in one artifact."""

    format: str
    file: str
    missing: str | None
    """Why the artifact cannot be opened here, which says nothing about it; None if it was opened."""
    failures: tuple[str, ...]
    """One sentence per reason; empty if passed or missing."""
    samples: int
    """Golden samples that were run, each alone and all in one batch."""
    max_absolute_logits: float | None
    """Largest difference from the expected logits; None where none could be compared."""
    max_absolute_probabilities: float | None
    top1_agreement: float | None
    """Share of images with the expected most probable class in every batch; None where no logits could be compared."""
    tolerance: Tolerance | None
    """What was allowed; None for a precision without a tolerance, whose values need only be finite and of the right
    form."""
    edge_inputs: int = 0
    """How many of the samples are edge inputs and not images."""
    mean_divergence: float | None = None
    """Over the images, in nats; None where single values are judged instead."""
    rounding_ratio: float | None = None
    """Typical error as a multiple of what rounding costs PyTorch; None where the bundle does not say what that is."""
    limits: tuple[str, ...] = ()
    """One sentence on each limit that was replaced by whoever asked, or that the bundle carries and that was not
    used."""

    @property
    def judges_values(self) -> bool:
        """True if single values were held against a limit; a precision without one is judged by its form."""
        return self.tolerance is not None and self.tolerance.logits_absolute is not None

    @property
    def passed(self) -> bool:
        """True if it ran and nothing failed."""
        return self.missing is None and not self.failures


def selftest_bundle(
    bundle: Bundle, device: str = "cpu", threads: int = 1, tolerances: Mapping[str, float] | None = None
) -> Iterator[Selftest]:
    """Test every artifact of a bundle, one after the other.

    Args:
        bundle: an opened bundle.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads per call.
        tolerances: limits that are replaced, by field name (``toolkit.compare.tolerances``).

    Raises:
        BundleError: the bundle has no golden samples, or they are malformed.
        RecipeError: ``tolerances`` are not valid.
    """
    require_count("threads", threads, MOST_THREADS)
    for artifact in bundle.manifest.artifacts:
        try:
            session = open_artifact(bundle, artifact, device, threads)
        except (DeviceError, ExportError, MissingDependencyError, UntrustedCodeError) as error:
            yield _result(artifact, missing=str(error))
        except Exception as error:  # an engine may raise anything, and whatever it raises is the result
            yield _result(artifact, failures=(f"it cannot be opened: {first_line(error)}",))
        else:
            yield selftest(bundle, artifact, session, tolerances)


def selftest(
    bundle: Bundle, artifact: ArtifactRecord, session: Session, tolerances: Mapping[str, float] | None = None
) -> Selftest:
    """Run the golden samples alone and in one batch, and compare with what was expected when the bundle was exported.

    An artifact is held to the limits of its precision, which its bundle may tighten and never widen.

    Args:
        bundle: where the samples are.
        artifact: which artifact is tested.
        session: the artifact, opened.
        tolerances: see ``selftest_bundle``.

    Raises:
        BundleError: the bundle has no golden samples, or they are malformed.
        RecipeError: see ``selftest_bundle``.
    """
    limits = limits_of_artifact(artifact, tolerances)
    tolerance = limits.tolerance if limits else None
    golden, images = bundle.golden(), bundle.golden_images()
    names = [_name(case) for case in golden.cases]
    expected = {
        "logits": np.array([case.logits for case in golden.cases], np.float32),
        "probabilities": np.array([case.probabilities for case in golden.cases], np.float32),
    }
    comparison = Comparison(bundle.manifest.labels, tolerance or _anything(artifact.precision))
    every = list(range(len(names)))
    failures: dict[int, str] = {}
    alone: list[Outputs] = []
    together: list[Outputs] = []
    for rows in [*([row] for row in every), every]:
        try:
            given = session.run(bundle.manifest.input.encode(images[rows]))
        except Exception as error:  # see selftest_bundle
            failures.setdefault(len(rows), f"it cannot run a batch of {len(rows)}: {first_line(error)}")
            continue
        wanted = {name: values[rows] for name, values in expected.items()}
        if (good := comparison.add([names[row] for row in rows], wanted, given)) is not None:
            (together if rows is every else alone).append(dict(good))
    verdict = comparison.verdict()
    result = _result(
        artifact,
        failures=(*failures.values(), *verdict.failures),
        golden=golden,
        verdict=verdict,
        tolerance=tolerance,
    )
    if limits is None:
        return result
    passes = [_joined(part) for part in (alone, together) if sum(len(run["logits"]) for run in part) == len(every)]
    result = replace(result, limits=limits.notes)
    if not passes:
        return result
    if judged_by_class(limits.tolerance):
        return _by_class(result, golden, artifact, expected, passes)
    return _by_rounding(result, golden, expected, passes) if session.device == "cpu" else result


def _joined(runs: list[Outputs]) -> Outputs:
    return {name: np.concatenate([run[name] for run in runs]) for name in OUTPUTS}


def _by_class(
    result: Selftest, golden: Golden, artifact: ArtifactRecord, expected: Outputs, passes: list[Outputs]
) -> Selftest:
    """Hold an artifact to the limits that stand beside the samples, and to none that is wider than usual."""
    assert result.tolerance is not None
    limits = narrower(usual_limits(expected, golden.images, result.tolerance), golden.limits.get(artifact.file))
    scores = [score_golden(expected, outputs, golden.images, limits) for outputs in passes]
    return replace(
        result,
        failures=(*result.failures, *next((score.failures for score in scores if score.failures), ())),
        mean_divergence=max(score.mean_divergence for score in scores),
    )


def _by_rounding(result: Selftest, golden: Golden, expected: Outputs, passes: list[Outputs]) -> Selftest:
    """Judge the typical error by what rounding costs this network, where the bundle knows that.

    A GPU rounds products as its own mode says, so it is not judged by this.
    """
    assert result.tolerance is not None
    precision = result.tolerance.precision
    if precision not in golden.rounding or precision not in ROUNDOFF:
        return result
    roundings = [
        compare_rounding(expected["logits"], outputs["logits"], golden.rounding[precision], precision)
        for outputs in passes
    ]
    worst = max(roundings, key=lambda rounding: rounding.ratio)
    return replace(
        result,
        failures=(*result.failures, *rounding_failure(worst, result.tolerance)),
        rounding_ratio=worst.ratio,
        limits=(*result.limits, *rounding_notes(golden.rounding[precision], result.tolerance)),
    )


def limits_of_artifact(artifact: ArtifactRecord, tolerances: Mapping[str, float] | None = None) -> Limits | None:
    """Return what an artifact is held to; None for a precision without any limits, of this package or the bundle.

    Args:
        artifact: its entry in the manifest.
        tolerances: see ``selftest_bundle``.

    Raises:
        RecipeError: see ``selftest_bundle``.
    """
    precision = get_format(artifact.format, artifact.family).precision
    if precision not in TOLERANCES and artifact.tolerance is None and not tolerances:
        return None
    return limits_of(artifact, precision, tolerances)


def _name(case: GoldenCase) -> str:
    return f"{case.file} ({case.source})"


def _anything(precision: str) -> Tolerance:
    return Tolerance(
        precision=precision, logits_absolute=math.inf, logits_relative=0.0, probabilities_absolute=math.inf
    )


def _result(
    artifact: ArtifactRecord,
    *,
    missing: str | None = None,
    failures: tuple[str, ...] = (),
    golden: Golden | None = None,
    verdict: Verdict | None = None,
    tolerance: Tolerance | None = None,
) -> Selftest:
    largest = {output.output: output.statistics.max_absolute for output in verdict.outputs} if verdict else {}
    agreement = None
    if golden is not None and verdict is not None and "logits" in largest:
        flipped = {flip.input for flip in verdict.flips}
        different = sum(_name(case) in flipped for case in golden.cases[: golden.images])
        agreement = 1 - different / golden.images
    return Selftest(
        format=artifact.format,
        file=artifact.file,
        missing=missing,
        failures=failures,
        samples=len(golden.cases) if golden else 0,
        max_absolute_logits=largest.get("logits"),
        max_absolute_probabilities=largest.get("probabilities"),
        top1_agreement=agreement,
        tolerance=tolerance,
        edge_inputs=len(golden.cases) - golden.images if golden else 0,
    )
