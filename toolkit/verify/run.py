"""The stage: a run folder in, ``verify/parity.json``, ``verify/junit.xml`` and verdicts in the manifest out."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from toolkit import provenance
from toolkit.backbones.deployable import Deployable, TorchSession
from toolkit.backbones.restore import load_deployable
from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.writer import record_parity
from toolkit.compare.tolerances import tolerance_for
from toolkit.data import Split
from toolkit.data.of_run import load_test_split
from toolkit.errors import RunError
from toolkit.formats.registry import get_format
from toolkit.progress import Reporter, Silent
from toolkit.results import ArtifactParity, ParityReport
from toolkit.runs import FinishedRun, RunFolder
from toolkit.verify.bisect import bisect_artifact
from toolkit.verify.bundle import check_labels, checked_threads, write_records
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import Judgement, golden_of, metadata_of, run_reference, with_truths
from toolkit.verify.gate import planned_inputs, verify_artifact
from toolkit.verify.inputs import DEFAULT_IMAGES, Inputs, draw, make_inputs
from toolkit.verify.preprocessing import check_preprocessing
from toolkit.verify.reference_onnx import fresh_export


def verify_run(
    run: RunFolder | FinishedRun,
    *,
    device: str = "cpu",
    threads: int | None = None,
    images: int | None = DEFAULT_IMAGES,
    reporter: Reporter | None = None,
    tolerances: Mapping[str, float] | None = None,
    bisect: bool = False,
) -> ParityReport:
    """Compare every artifact of a run's bundle with PyTorch. A failed gate is a report that says so, not an exception.

    The reference is PyTorch on the CPU whatever ``device`` is. Memory: the drawn images are held as uint8, 0.15 MB each
    at 224 x 224.

    Args:
        run: a run that has been exported.
        device: ``cpu`` or ``cuda``: where the artifacts run.
        threads: CPU threads per call; all cores of this process by default.
        images: how many test images to draw; None is all of them.
        reporter: where progress goes.
        tolerances: values that replace those of ``toolkit.compare.tolerances``, by field name.
        bisect: name the first node that diverges in each ONNX artifact that fails.

    Raises:
        RunError: the run is not finished, its weights or test images have changed, or the bundle was exported from
            another state of it.
        BundleError: there is no bundle, or a file in it is not the one its manifest describes.
        ExportError: an artifact's format is not known here.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the engine of an artifact is not installed.
        RecipeError: ``threads``, ``images`` or ``tolerances`` are not valid.
    """
    reporter = reporter or Silent()
    threads = checked_threads(threads)
    run = FinishedRun.of(run)
    bundle = Bundle.open(run.folder.bundle)
    manifest = bundle.manifest
    _require_same_model(run, manifest)
    # Before the minutes of work: what is wrong with the request is told at once.
    allowed = [tolerance_for(artifact.precision, tolerances) for artifact in manifest.artifacts]
    formats = [get_format(artifact.format) for artifact in manifest.artifacts]
    test = load_test_split(run, reporter)
    inputs = _inputs(run, test, manifest, images)
    deployable = load_deployable(run, manifest.input.normalization_in_graph)
    reference = TorchSession(deployable, "cpu", threads)
    judgement = _judgement(bundle, inputs, deployable, reference, threads, reporter)
    results = []
    for artifact, chosen, tolerance in zip(manifest.artifacts, formats, allowed, strict=True):
        file = bundle.file(artifact.file)
        opened = functools.partial(chosen.open, file, device)
        with reporter.bar(f"verify {artifact.format}", planned_inputs(judgement), "image") as bar:
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
    if bisect:
        results = [_bisected(result, bundle, deployable, judgement) for result in results]
    checks = (check_preprocessing(bundle, run.record.preprocessing, test), check_labels(bundle))
    report = ParityReport(
        run=run.folder.name,
        reference=f"{reference.engine} on the CPU",
        passed=bool(results) and all(result.passed for result in results) and all(check.passed for check in checks),
        artifacts=tuple(results),
        provenance=provenance.collect(),
        checks=checks,
    )
    write_records(report, run.folder.verify)
    record_parity(run.folder.bundle, report)
    return report


def _judgement(
    bundle: Bundle, inputs: Inputs, deployable: Deployable, reference: TorchSession, threads: int, reporter: Reporter
) -> Judgement:
    manifest = bundle.manifest
    with reporter.bar("reference", len(inputs.names), "image") as bar:
        expected = run_reference(reference, inputs, manifest.input, bar.advance)
    precisions = {artifact.precision for artifact in manifest.artifacts}
    return Judgement(
        contract=manifest.input,
        labels=manifest.labels,
        inputs=inputs,
        reference=with_truths(expected, inputs, manifest.labels),
        golden=golden_of(bundle),
        exact=measure_exact(deployable, inputs, expected, manifest.input, precisions, threads),
        metadata=metadata_of(manifest),
    )


def _bisected(result: ArtifactParity, bundle: Bundle, deployable: Deployable, judgement: Judgement) -> ArtifactParity:
    """Add the first diverging node to the verdict on an ONNX artifact that failed."""
    if result.passed or not result.file.endswith(".onnx"):
        return result
    artifact = bundle.artifact(result.artifact)
    with fresh_export(deployable, bundle.manifest.input, artifact.opset) as reference:
        found = bisect_artifact(
            bundle.file(result.file), reference, judgement.contract, judgement.inputs, result.tolerance
        )
    return result.model_copy(update={"bisection": found})


def _require_same_model(run: FinishedRun, manifest: Manifest) -> None:
    """Refuse a bundle that was exported from other weights or with another meaning than the run has now."""
    run.require_exported_weights(manifest)
    record = run.record
    differing = [
        what
        for what, ours, theirs in (
            ("labels", record.labels, manifest.labels),
            ("preprocessing", record.preprocessing, manifest.preprocessing),
            ("normalisation", record.normalization, manifest.input.normalization),
        )
        if ours != theirs
    ]
    if differing:
        raise RunError(
            f"the bundle {run.folder.bundle} has other {' and '.join(differing)} than {run.folder.record_file}: run "
            "'toolkit export' again."
        )


def _inputs(run: FinishedRun, test: Split, manifest: Manifest, images: int | None) -> Inputs:
    seed = run.recipe.seed
    drawn = draw(test.targets, len(test) if images is None else images, seed)
    targets = np.asarray(test.targets[drawn], np.int64)
    return make_inputs(
        tuple(test.names[index] for index in drawn), test.load(drawn, manifest.preprocessing), seed, targets
    )
