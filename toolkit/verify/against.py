"""Two bundles, artifact by artifact: is the new model still close to the one in production? Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from toolkit import provenance
from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.compare.tolerances import OTHER_WEIGHTS, tolerance_for
from toolkit.errors import BundleError, ImageError
from toolkit.formats.registry import get_format
from toolkit.preprocess import list_images, prepare_batch
from toolkit.progress import Reporter, Silent
from toolkit.results import ArtifactParity, Check, ParityReport, Tolerance
from toolkit.verify.bisect import bisect_artifact
from toolkit.verify.bundle import check_labels, checked_threads, missing_engine, require_any, targets_of
from toolkit.verify.expected import Expected, Judgement, golden_of, metadata_of, run_reference, with_truths
from toolkit.verify.gate import planned_inputs, verify_artifact
from toolkit.verify.inputs import Images, Inputs


def verify_against(
    path: Path,
    other: Path,
    *,
    data: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    reporter: Reporter | None = None,
    tolerances: Mapping[str, float] | None = None,
    bisect: bool = False,
) -> ParityReport:
    """Compare each artifact of a bundle with that of another bundle, or with the other's preferred one.

    Bundles of the same weights are held to the tolerance of the artifact's precision; other weights to agreement and
    accuracy.

    Args:
        path: the bundle that is judged.
        other: the bundle that is right by definition.
        data: a folder of images, each prepared as its bundle says; images in folders named like labels count for
            accuracy too. By default the golden images of both bundles.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads per call; all cores of this process by default.
        reporter: where progress goes.
        tolerances: values that replace those of ``toolkit.compare.tolerances``, by field name.
        bisect: name the first node that diverges in each ONNX artifact that fails, where the other one is ONNX too.

    Raises:
        BundleError: a bundle is missing or malformed, or the two cannot be compared.
        ImageError: the folder has no images, or one cannot be read.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the engine of no artifact is installed. Where only some are missing, the report names
            these artifacts.
        RecipeError: ``threads`` or ``tolerances`` are not valid.
    """
    reporter = reporter or Silent()
    threads = checked_threads(threads)
    new, old = Bundle.open(path), Bundle.open(other)
    if set(new.manifest.labels) != set(old.manifest.labels) or len(new.manifest.labels) != len(old.manifest.labels):
        raise BundleError(
            f"{new.path} and {old.path} do not tell the same classes apart: a service cannot change from one to the "
            "other."
        )
    order = _same_order(new, old)
    mine, theirs = _images(new, old, data)
    results: list[ArtifactParity] = []
    not_judged: dict[str, str] = {}
    for artifact in new.manifest.artifacts:
        reference = _counterpart(artifact, old)
        tolerance = _tolerance(new, old, artifact, reference, tolerances)
        with missing_engine(not_judged, artifact.file):
            judgement = _judgement(new, old, reference, mine, theirs, device, threads)
            file = new.file(artifact.file)
            opened = functools.partial(get_format(artifact.format).open, file, device)
            with reporter.bar(f"verify {artifact.format}", planned_inputs(judgement), "image") as bar:
                result = verify_artifact(
                    opened,
                    artifact,
                    judgement,
                    tolerance,
                    device=device,
                    threads=threads,
                    file=file,
                    on_batch=bar.advance,
                )
            if bisect and not result.passed and artifact.file.endswith(".onnx") and reference.file.endswith(".onnx"):
                result = _bisected(result, file, old.file(reference.file), judgement)
            results.append(result)
    require_any(results, not_judged)
    checks = (check_labels(new), order)
    return ParityReport(
        run=new.manifest.name,
        reference=f"the bundle {old.manifest.name}",
        passed=all(result.passed for result in results) and all(check.passed for check in checks),
        artifacts=tuple(results),
        provenance=provenance.collect(),
        checks=checks,
        not_judged=not_judged,
    )


def _same_order(new: Bundle, old: Bundle) -> Check:
    same = new.manifest.labels == old.manifest.labels
    failures = (
        ()
        if same
        else (
            "the labels stand in another order than in the other bundle: a service that uses positions would misname "
            "classes",
        )
    )
    return Check(
        name="same labels",
        passed=same,
        failures=failures,
        detail=f"{len(new.manifest.labels)} labels in the order of the other bundle",
    )


def _counterpart(artifact: ArtifactRecord, old: Bundle) -> ArtifactRecord:
    return next((known for known in old.manifest.artifacts if known.format == artifact.format), None) or old.artifact()


def _tolerance(
    new: Bundle, old: Bundle, artifact: ArtifactRecord, reference: ArtifactRecord, overrides: Mapping[str, float] | None
) -> Tolerance:
    """Return the tolerance of the coarser precision of two artifacts; of other weights, what a new model is held to."""
    both = [tolerance_for(record.precision, overrides) for record in (artifact, reference)]
    tolerance = max(both, key=lambda known: np.inf if known.logits_relative is None else known.logits_relative)
    if new.manifest.origin.model_sha256 == old.manifest.origin.model_sha256:
        return tolerance
    return both[0].model_copy(update={**OTHER_WEIGHTS, **(overrides or {})})


def _judgement(
    new: Bundle, old: Bundle, reference: ArtifactRecord, mine: Inputs, theirs: Images, device: str, threads: int
) -> Judgement:
    session = get_format(reference.format).open(old.file(reference.file), device, threads)
    expected = run_reference(session, Inputs(mine.names, theirs, mine.test_images), old.manifest.input)
    # The new bundle's pixels stand beside what the old one says of its own: preprocessing is part of what is compared.
    outputs = _reordered(expected, old.manifest.labels, new.manifest.labels)
    return Judgement(
        contract=new.manifest.input,
        labels=new.manifest.labels,
        inputs=mine,
        reference=with_truths(replace(outputs, images=mine.images), mine, new.manifest.labels),
        golden=golden_of(new) if new.manifest.origin.model_sha256 == old.manifest.origin.model_sha256 else None,
        metadata=metadata_of(new.manifest),
    )


def _reordered(expected: Expected, theirs: tuple[str, ...], mine: tuple[str, ...]) -> Expected:
    """Put the classes of the other bundle in the order of this one."""
    columns = [theirs.index(label) for label in mine]
    return replace(expected, outputs={name: values[:, columns] for name, values in expected.outputs.items()})


def _images(new: Bundle, old: Bundle, data: Path | None) -> tuple[Inputs, Images]:
    """Return the inputs as the new bundle prepares them, and the same images as the old one does."""
    if data is not None:
        return _from_folder(new, old, data)
    mine, theirs = golden_of(new), golden_of(old)
    if mine.images.shape[1:] != theirs.images.shape[1:]:
        raise BundleError(
            f"{new.path} and {old.path} take images of different sizes, so that golden samples fit only one: give "
            "images with --data."
        )
    names = tuple(
        f"{name} of {which}"
        for which, golden in (("this bundle", mine), ("the other bundle", theirs))
        for name in golden.names
    )
    images = np.concatenate([mine.images, theirs.images])
    truths = (*(mine.true_labels or ()), *(theirs.true_labels or ()))
    return Inputs(names, images, len(names), targets_of(truths, new.manifest.labels)), images


def _from_folder(new: Bundle, old: Bundle, data: Path) -> tuple[Inputs, Images]:
    paths = list_images(data)
    if not paths:
        raise ImageError(f"there are no images in {data}: give a folder of image files.")
    truths = tuple(path.parent.name if path.parent.name in new.manifest.labels else None for path in paths)
    images = prepare_batch(paths, new.manifest.preprocessing)
    names = tuple(path.relative_to(data).as_posix() for path in paths)
    return Inputs(names, images, len(names), targets_of(truths, new.manifest.labels)), prepare_batch(
        paths, old.manifest.preprocessing
    )


def _bisected(result: ArtifactParity, artifact: Path, reference: Path, judgement: Judgement) -> ArtifactParity:
    return result.model_copy(
        update={
            "bisection": bisect_artifact(artifact, reference, judgement.contract, judgement.inputs, result.tolerance)
        }
    )
