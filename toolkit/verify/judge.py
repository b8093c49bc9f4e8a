"""One way through: every artifact of a bundle, judged by what a reference expects of it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from toolkit import provenance
from toolkit.errors import MissingDependencyError, ToolkitError, UntrustedCodeError
from toolkit.progress import Bar, working
from toolkit.results import ArtifactParity, Check, ParityReport
from toolkit.verify.bisect import bisect_artifact
from toolkit.verify.candidate import Candidate
from toolkit.verify.expected import Judgement
from toolkit.verify.gate import planned_inputs, verify_artifact
from toolkit.verify.options import VerifyOptions


class Reference(Protocol):
    """Where expectations come from: PyTorch, golden samples, or another bundle."""

    name: str
    """What the report calls it."""

    def judgement(self, candidate: Candidate) -> Judgement:
        """Return what an artifact is judged by.

        Raises:
            MissingDependencyError: what is right of this artifact cannot be computed here.
        """

    def right_graph(self, candidate: Candidate) -> AbstractContextManager[Path | None]:
        """Return the ONNX file of the network that is right, for bisection; None where there is none."""

    def checks(self) -> tuple[Check, ...]:
        """Return what is checked of the bundle as a whole, in the order of the report."""


def judge(name: str, candidates: Sequence[Candidate], reference: Reference, options: VerifyOptions) -> ParityReport:
    """Judge artifacts one after the other.

    An artifact whose engine is not installed, or that can carry code of a stranger, is named in the report and not
    judged: the bundle may hold others that this machine serves.

    Args:
        name: of the run or the bundle that they are from.
        candidates: all artifacts of it, see ``candidates_of``.
        reference: where expectations come from.
        options: where progress goes, and whether to bisect.

    Raises:
        DeviceError: the device cannot be used here.
        MissingDependencyError: there are artifacts, and the engine of none is installed; or one fails that is to be
            bisected, and what reads its graph is not installed.
        UntrustedCodeError: there are artifacts, and none may be opened.
        BundleError: the graph of one that is to be bisected cannot be read, or has another structure.
    """
    results: list[ArtifactParity] = []
    not_judged: dict[str, ToolkitError] = {}
    for candidate in candidates:
        artifact = candidate.artifact
        try:
            judgement = reference.judgement(candidate)
            with options.reporter.bar(f"verify {artifact.format}", planned_inputs(judgement), "images") as bar:

                def begins(check: str, bar: Bar = bar) -> None:
                    bar.advance(0, now=check)

                result = verify_artifact(candidate, judgement, bar.advance, begins)
        except (MissingDependencyError, UntrustedCodeError) as error:
            not_judged[artifact.file] = error
            continue
        if options.bisect and not result.passed:
            with working(options.reporter, f"looking for the first node of {artifact.format} that diverges"):
                result = _bisected(result, candidate, judgement, reference)
        results.append(result)
    if not_judged and not results:
        reasons = " ".join(dict.fromkeys(str(error) for error in not_judged.values()))
        raise type(next(iter(not_judged.values())))(f"no artifact can be judged here: {reasons}")
    with working(options.reporter, "checking preprocessing and labels"):
        checks = reference.checks()
    return ParityReport(
        run=name,
        reference=reference.name,
        passed=bool(results) and all(result.passed for result in results) and all(check.passed for check in checks),
        artifacts=tuple(results),
        provenance=provenance.collect(),
        checks=checks,
        not_judged={file: str(error) for file, error in not_judged.items()},
    )


def _bisected(
    result: ArtifactParity, candidate: Candidate, judgement: Judgement, reference: Reference
) -> ArtifactParity:
    """Add the first diverging node to the verdict on an artifact that failed, where both sides are ONNX graphs."""
    if candidate.content is None or not candidate.bisectable:
        return result
    with reference.right_graph(candidate) as right, candidate.content().as_files() as file:
        if right is None:
            return result
        bisection = bisect_artifact(file, right, judgement.contract, judgement.inputs, candidate.tolerance)
    return result.model_copy(update={"bisection": bisection})
