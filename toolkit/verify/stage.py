"""The stage: a run folder in, ``verify/parity.json``, ``verify/junit.xml`` and verdicts in the manifest out."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from toolkit import provenance
from toolkit.backbones.deployable import TorchSession
from toolkit.backbones.restore import load_deployable
from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.update import record_parity
from toolkit.compare.tolerances import tolerance_for
from toolkit.data.of_run import load_test_split
from toolkit.errors import RecipeError, RunError
from toolkit.files import write_text
from toolkit.formats.registry import get_format
from toolkit.progress import Reporter, Silent
from toolkit.results import ParityReport
from toolkit.runs import RunFolder, RunRecord
from toolkit.verify.gate import Expected, Judgement, golden_expected, run_reference, verify_artifact
from toolkit.verify.inputs import Inputs, batches, draw, make_inputs
from toolkit.verify.junit import junit_xml


def verify_run(
    run: RunFolder,
    *,
    device: str = "cpu",
    threads: int | None = None,
    images: int = 256,
    reporter: Reporter | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> ParityReport:
    """Compare every artifact of a run's bundle with PyTorch. A failed gate is a report that says so, not an exception.

    The reference is PyTorch on the CPU whatever ``device`` is. Memory: the drawn images are held as uint8, 0.15 MB each at 224 x 224.

    Args:
        run: a run that has been exported.
        device: ``cpu`` or ``cuda``: where the artifacts run.
        threads: CPU threads per call; all cores of this process by default.
        images: how many test images to draw.
        reporter: where progress goes.
        tolerances: values that replace those of ``toolkit.compare.tolerances``, by field name.

    Raises:
        RunError: the run is not finished, its weights or test images have changed, or the bundle was exported from another state of it.
        BundleError: there is no bundle, or a file in it is not the one its manifest describes.
        ExportError: an artifact's format is not known here.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the engine of an artifact is not installed.
        RecipeError: ``threads``, ``images`` or ``tolerances`` are not valid.
    """
    reporter = reporter or Silent()
    threads = provenance.available_cores() if threads is None else threads
    if threads < 1:
        raise RecipeError(f"{threads} threads cannot run anything: give 1 or more.")
    record, bundle = run.record(), Bundle.open(run.bundle)
    manifest = bundle.manifest
    _require_same_model(run, record, manifest)
    # Before the minutes of work: what is wrong with the request is told at once.
    allowed = [tolerance_for(artifact.precision, tolerances) for artifact in manifest.artifacts]
    formats = [get_format(artifact.format) for artifact in manifest.artifacts]
    inputs = _inputs(run, record, manifest, images, reporter)
    reference = _reference(run, record, manifest, threads)
    with reporter.bar("reference", len(inputs.names), "image") as bar:
        expected = run_reference(reference, inputs, manifest.input, bar.advance)
    judgement = Judgement(contract=manifest.input, labels=manifest.labels, inputs=inputs, reference=expected, golden=_golden(bundle))
    total = sum(len(batch.rows) for batch in batches(inputs.test_images, inputs.edge_inputs))
    results = []
    for artifact, chosen, tolerance in zip(manifest.artifacts, formats, allowed, strict=True):
        opened = functools.partial(chosen.open, bundle.file(artifact.file), device, threads)
        with reporter.bar(f"verify {artifact.format}", total, "image") as bar:
            results.append(verify_artifact(opened, artifact, judgement, tolerance, device=device, threads=threads, on_batch=bar.advance))
    report = ParityReport(
        run=run.name,
        reference=f"{reference.engine} on the CPU",
        passed=bool(results) and all(result.passed for result in results),
        artifacts=tuple(results),
        provenance=provenance.collect(),
    )
    report.save(run.parity_file)
    write_text(run.junit_file, junit_xml(report))
    record_parity(run.bundle, report)
    return report


def _require_same_model(run: RunFolder, record: RunRecord, manifest: Manifest) -> None:
    """Refuse a bundle that was exported from other weights or with another meaning than the run has now."""
    if record.model_sha256 != manifest.origin.model_sha256:
        raise RunError(f"the bundle {run.bundle} was exported from other weights than {run.model_file}: run 'toolkit export' again.")
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
        raise RunError(f"the bundle {run.bundle} has other {' and '.join(differing)} than {run.record_file}: run 'toolkit export' again.")


def _inputs(run: RunFolder, record: RunRecord, manifest: Manifest, images: int, reporter: Reporter) -> Inputs:
    test = load_test_split(run, record, reporter)
    seed = run.recipe().seed
    drawn = draw(test.targets, images, seed)
    return make_inputs(tuple(test.names[index] for index in drawn), test.load(drawn, manifest.preprocessing), seed)


def _reference(run: RunFolder, record: RunRecord, manifest: Manifest, threads: int) -> TorchSession:
    return TorchSession(load_deployable(run, record, manifest.input.normalization_in_graph), "cpu", threads)


def _golden(bundle: Bundle) -> Expected:
    cases = bundle.golden().cases
    return golden_expected(
        {case.file: case.source for case in cases},
        bundle.golden_images(),
        [case.logits for case in cases],
        [case.probabilities for case in cases],
    )
