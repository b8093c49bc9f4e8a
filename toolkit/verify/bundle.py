"""A bundle that proves itself: its golden samples, and every artifact against itself. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit import provenance
from toolkit.bundle import Bundle
from toolkit.compare.tolerances import tolerance_for
from toolkit.errors import MissingDependencyError, RecipeError
from toolkit.files import write_text
from toolkit.formats.registry import get_format
from toolkit.progress import Reporter, Silent
from toolkit.results import ArtifactParity, Check, ParityReport
from toolkit.verify.expected import Judgement, golden_of, metadata_of
from toolkit.verify.gate import planned_inputs, verify_artifact
from toolkit.verify.inputs import Inputs, edge_inputs
from toolkit.verify.junit import junit_xml

PARITY_NAME = "parity.json"
JUNIT_NAME = "junit.xml"


def verify_bundle(
    path: Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    reporter: Reporter | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> ParityReport:
    """Judge every artifact of a bundle by its golden samples and by itself, without the run it came from.

    Args:
        path: the bundle's folder, or a run folder that has one.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads per call; all cores of this process by default.
        reporter: where progress goes.
        tolerances: values that replace those of ``toolkit.compare.tolerances``, by field name.

    Raises:
        BundleError: there is no bundle, or a file in it is not the one its manifest describes.
        ExportError: an artifact's format is not known here.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the engine of no artifact is installed. Where only some are missing, the report names
            these artifacts.
        RecipeError: ``threads`` or ``tolerances`` are not valid.
    """
    reporter = reporter or Silent()
    threads = checked_threads(threads)
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    allowed = [tolerance_for(artifact.precision, tolerances) for artifact in manifest.artifacts]
    formats = [get_format(artifact.format) for artifact in manifest.artifacts]
    golden = golden_of(bundle)
    judgement = Judgement(
        contract=manifest.input,
        labels=manifest.labels,
        inputs=Inputs(
            golden.names, golden.images, len(golden.names), targets_of(golden.true_labels or (), manifest.labels)
        ),
        reference=golden,
        golden=None,
        metadata=metadata_of(manifest),
        unknown=edge_inputs(golden.images.shape[1], golden.images.shape[2], 0)[1],
    )
    results: list[ArtifactParity] = []
    not_judged: dict[str, str] = {}
    for artifact, chosen, tolerance in zip(manifest.artifacts, formats, allowed, strict=True):
        file = bundle.file(artifact.file)
        opened = functools.partial(chosen.open, file, device)
        with (
            reporter.bar(f"verify {artifact.format}", planned_inputs(judgement), "image") as bar,
            missing_engine(not_judged, artifact.file),
        ):
            results.append(
                verify_artifact(
                    opened,
                    artifact,
                    judgement,
                    tolerance,
                    device=device,
                    threads=threads,
                    file=file,
                    on_batch=bar.advance,
                )
            )
    require_any(results, not_judged)
    labels = check_labels(bundle)
    return ParityReport(
        run=manifest.name,
        reference=f"its {len(golden.names)} golden samples",
        passed=all(result.passed for result in results) and labels.passed,
        artifacts=tuple(results),
        provenance=provenance.collect(),
        checks=(labels,),
        not_judged=not_judged,
    )


def checked_threads(threads: int | None) -> int:
    """Return how many threads to use: all cores of this process where it is not said.

    Raises:
        RecipeError: fewer than 1.
    """
    if threads is None:
        return provenance.available_cores()
    if threads < 1:
        raise RecipeError(f"{threads} threads cannot run anything: give 1 or more.")
    return threads


@contextmanager
def missing_engine(not_judged: dict[str, str], file: str) -> Iterator[None]:
    """Note an artifact whose engine is not installed instead of judging it.

    The bundle may hold others that this machine serves.
    """
    try:
        yield
    except MissingDependencyError as error:
        not_judged[file] = str(error)


def require_any(results: Sequence[ArtifactParity], not_judged: Mapping[str, str]) -> None:
    """Refuse to report on nothing.

    Raises:
        MissingDependencyError: no artifact could be judged; the reasons are named.
    """
    if not results:
        raise MissingDependencyError(f"no artifact can be judged here: {' '.join(dict.fromkeys(not_judged.values()))}")


def write_records(report: ParityReport, folder: Path) -> None:
    """Write ``parity.json`` and ``junit.xml`` of a report.

    Raises:
        FileWriteError: the folder cannot be written.
    """
    report.save(folder / PARITY_NAME)
    write_text(folder / JUNIT_NAME, junit_xml(report))


def check_labels(bundle: Bundle) -> Check:
    """Judge what the golden samples are labelled with.

    That they were written with the same labels in the same order, ``Bundle.golden`` requires.
    """
    golden, manifest = bundle.golden(), bundle.manifest
    unknown = sorted({case.true_label for case in golden.cases if case.true_label is not None} - set(manifest.labels))
    failures = (
        (f"golden samples are labelled {', '.join(unknown)}, which the manifest does not have",) if unknown else ()
    )
    return Check(
        name="labels", passed=not failures, failures=failures, detail=f"{len(manifest.labels)} labels in their order"
    )


def targets_of(truths: Sequence[str | None], labels: tuple[str, ...]) -> npt.NDArray[np.int64] | None:
    """Return the position of each true label, int64 ``[n]``; None unless all are known."""
    places = {label: index for index, label in enumerate(labels)}
    known = [places[label] for label in truths if label in places]
    return np.array(known, np.int64) if known and len(known) == len(truths) else None
