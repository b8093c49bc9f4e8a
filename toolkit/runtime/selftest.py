"""A bundle runs its own golden samples: the small check that needs neither PyTorch nor the run.

Numpy and the artifact's engine only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.compare.tolerances import TOLERANCES
from toolkit.compare.verdict import Comparison, Verdict
from toolkit.errors import DeviceError, ExportError, MissingDependencyError, UntrustedCodeError, first_line
from toolkit.formats.base import Session
from toolkit.formats.opening import open_artifact
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
    """Share of samples with the expected most probable class in every batch; None where no logits could be compared."""
    tolerance: Tolerance | None
    """What was allowed; None for a precision without a tolerance, whose values need only be finite and of the right
    form."""

    @property
    def judges_values(self) -> bool:
        """True if single values were held against a limit; a precision without one is judged by its form."""
        return self.tolerance is not None and self.tolerance.logits_absolute is not None

    @property
    def passed(self) -> bool:
        """True if it ran and nothing failed."""
        return self.missing is None and not self.failures


def selftest_bundle(bundle: Bundle, device: str = "cpu", threads: int = 1) -> Iterator[Selftest]:
    """Test every artifact of a bundle, one after the other.

    Args:
        bundle: an opened bundle.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads per call.

    Raises:
        BundleError: the bundle has no golden samples, or they are malformed.
    """
    for artifact in bundle.manifest.artifacts:
        try:
            session = open_artifact(bundle, artifact, device, threads)
        except (DeviceError, ExportError, MissingDependencyError, UntrustedCodeError) as error:
            yield _result(artifact, missing=str(error))
        except Exception as error:  # an engine may raise anything, and whatever it raises is the result
            yield _result(artifact, failures=(f"it cannot be opened: {first_line(error)}",))
        else:
            yield selftest(bundle, artifact, session)


def selftest(bundle: Bundle, artifact: ArtifactRecord, session: Session) -> Selftest:
    """Run the golden samples alone and in one batch, and compare with what PyTorch gave when the bundle was exported.

    Args:
        bundle: where the samples are.
        artifact: which artifact is tested.
        session: the artifact, opened.

    Raises:
        BundleError: the bundle has no golden samples, or they are malformed.
    """
    golden, images = bundle.golden(), bundle.golden_images()
    names = [f"{case.file} ({case.source})" for case in golden.cases]
    expected = {
        "logits": np.array([case.logits for case in golden.cases], np.float32),
        "probabilities": np.array([case.probabilities for case in golden.cases], np.float32),
    }
    tolerance = artifact.tolerance or TOLERANCES.get(artifact.precision)
    comparison = Comparison(bundle.manifest.labels, tolerance or _anything(artifact.precision))
    every = list(range(len(names)))
    failures: dict[int, str] = {}
    for rows in [*([row] for row in every), every]:
        try:
            outputs = session.run(bundle.manifest.input.encode(images[rows]))
        except Exception as error:  # see selftest_bundle
            failures.setdefault(len(rows), f"it cannot run a batch of {len(rows)}: {first_line(error)}")
            continue
        comparison.add([names[row] for row in rows], {name: values[rows] for name, values in expected.items()}, outputs)
    verdict = comparison.verdict()
    return _result(
        artifact,
        failures=(*failures.values(), *verdict.failures),
        samples=len(names),
        verdict=verdict,
        tolerance=tolerance,
    )


def _anything(precision: str) -> Tolerance:
    return Tolerance(
        precision=precision, logits_absolute=math.inf, logits_relative=0.0, probabilities_absolute=math.inf
    )


def _result(
    artifact: ArtifactRecord,
    *,
    missing: str | None = None,
    failures: tuple[str, ...] = (),
    samples: int = 0,
    verdict: Verdict | None = None,
    tolerance: Tolerance | None = None,
) -> Selftest:
    largest = {output.output: output.statistics.max_absolute for output in verdict.outputs} if verdict else {}
    return Selftest(
        format=artifact.format,
        file=artifact.file,
        missing=missing,
        failures=failures,
        samples=samples,
        max_absolute_logits=largest.get("logits"),
        max_absolute_probabilities=largest.get("probabilities"),
        top1_agreement=1 - len({flip.input for flip in verdict.flips}) / samples
        if verdict and "logits" in largest
        else None,
        tolerance=tolerance,
    )
