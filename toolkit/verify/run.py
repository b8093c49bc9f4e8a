"""The stage: a run folder in, ``verify/parity.json``, ``verify/junit.xml`` and verdicts in the manifest out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

import numpy as np

from toolkit.backbones.deployable import TorchSession
from toolkit.backbones.restore import load_deployable
from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.recording import record_parity
from toolkit.data import Split
from toolkit.data.of_run import load_test_split
from toolkit.errors import RunError
from toolkit.progress import working
from toolkit.results import Check, ParityReport
from toolkit.run_folder import FinishedRun, RunFolder
from toolkit.verify.candidate import Candidate, candidates_of
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import Judgement, golden_of, metadata_of, run_reference, with_truths
from toolkit.verify.inputs import DEFAULT_IMAGES, Inputs, draw, make_inputs
from toolkit.verify.judge import judge
from toolkit.verify.labels import check_labels
from toolkit.verify.options import Asked, VerifyOptions
from toolkit.verify.preprocessing import check_preprocessing
from toolkit.verify.records import write_records
from toolkit.verify.reference_onnx import fresh_export


def verify_run(
    run: RunFolder | FinishedRun, *, images: int | None = DEFAULT_IMAGES, **how: Unpack[Asked]
) -> ParityReport:
    """Compare every artifact of a run's bundle with PyTorch. A failed gate is a report that says so, not an exception.

    The reference is PyTorch on the CPU whatever the device is. Memory: the drawn images are held as uint8, 0.15 MB each
    at 224 x 224.

    Args:
        run: a run that has been exported.
        images: how many test images to draw; None is all of them.
        how: fields of ``VerifyOptions``.

    Raises:
        RunError: the run is not finished, its weights or test images have changed, the bundle was exported from
            another state of it, or another process is writing the run.
        FileWriteError: the run or its bundle cannot be written; said before anything is compared.
        BundleError: there is no bundle, or a file in it is not the one its manifest describes.
        ExportError: an artifact's format is not known here.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the engine of no artifact is installed. Where only some are missing, the report names
            these artifacts.
        RecipeError: ``threads``, ``images`` or ``tolerances`` are not valid.
    """
    options = VerifyOptions(**how)
    run = FinishedRun.of(run)
    bundle = options.opened(run.folder.bundle)
    _require_same_model(run, bundle.manifest)
    candidates = candidates_of(bundle, options)
    with working(options.reporter, "verifying"), run.folder.recording("verdicts"):
        with working(options.reporter, "what PyTorch computes"):
            pytorch = PyTorch(run, bundle, images, options)
        report = judge(run.folder.name, candidates, pytorch, options)
        write_records(report, run.folder.verify)
        record_parity(run.folder.bundle, report)
    return report


class PyTorch:
    """What the run's own network says, on the CPU (see ``judge.Reference``)."""

    def __init__(self, run: FinishedRun, bundle: Bundle, images: int | None, options: VerifyOptions) -> None:
        """Load network and test images, and run the network once over all inputs."""
        manifest, threads = bundle.manifest, options.thread_count
        self._run, self._bundle = run, bundle
        self._test = load_test_split(run, options.reporter)
        inputs = _inputs(run, self._test, manifest, images)
        self._deployable = load_deployable(run, manifest.input.normalization_in_graph)
        session = TorchSession(self._deployable, "cpu", threads)
        self.name = f"{session.engine} on the CPU"
        with options.reporter.bar("reference", len(inputs.names), "images") as bar:
            expected = run_reference(session, inputs, manifest.input, bar.advance)
        precisions = {artifact.precision for artifact in manifest.artifacts}
        self._judgement = Judgement(
            contract=manifest.input,
            labels=manifest.labels,
            inputs=inputs,
            reference=with_truths(expected, inputs, manifest.labels),
            golden=golden_of(bundle),
            exact=measure_exact(self._deployable, inputs, expected, manifest.input, precisions, threads),
            metadata=metadata_of(manifest),
        )

    def judgement(self, candidate: Candidate) -> Judgement:
        """Return the same for every artifact."""
        del candidate
        return self._judgement

    @contextmanager
    def right_graph(self, candidate: Candidate) -> Iterator[Path]:
        """Export the network afresh, to the opset of the artifact."""
        with fresh_export(self._deployable, self._judgement.contract, candidate.artifact.opset) as path:
            yield path

    def checks(self) -> tuple[Check, ...]:
        """Check preprocessing and labels."""
        return check_preprocessing(self._bundle, self._run.record.preprocessing, self._test), check_labels(self._bundle)


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
