"""A bundle that proves itself: its golden samples, and every artifact against itself. Imports no torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Unpack

from toolkit.bundle import Bundle
from toolkit.results import Check, ParityReport
from toolkit.verify.candidate import Candidate, candidates_of
from toolkit.verify.expected import Judgement, golden_of, metadata_of
from toolkit.verify.hard_files import check_hard_files
from toolkit.verify.inputs import Inputs, edge_inputs
from toolkit.verify.judge import judge
from toolkit.verify.labels import check_labels, targets_of
from toolkit.verify.options import Asked, VerifyOptions


def verify_bundle(path: Path, **how: Unpack[Asked]) -> ParityReport:
    """Judge every artifact of a bundle by its golden samples and by itself, without the run it came from.

    Args:
        path: the bundle's folder, or a run folder that has one.
        how: fields of ``VerifyOptions``.

    Raises:
        BundleError: there is no bundle, or a file in it is not the one its manifest describes.
        ExportError: an artifact's format is not known here.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the engine of no artifact is installed. Where only some are missing, the report names
            these artifacts.
        RecipeError: ``threads`` or ``tolerances`` are not valid.
    """
    options = VerifyOptions(**how)
    bundle = options.opened(path)
    return judge(bundle.manifest.name, candidates_of(bundle, options), GoldenSamples(bundle), options)


class GoldenSamples:
    """What a bundle itself says that its artifacts should say (see ``judge.Reference``)."""

    def __init__(self, bundle: Bundle) -> None:
        golden, manifest = golden_of(bundle), bundle.manifest
        images = golden.test_images
        self.name = f"its {len(golden.names)} golden samples"
        self._bundle = bundle
        self._judgement = Judgement(
            contract=manifest.input,
            labels=manifest.labels,
            inputs=Inputs(
                golden.names,
                golden.images,
                images,
                targets_of((golden.true_labels or ())[:images], manifest.labels),
            ),
            reference=golden,
            golden=golden,
            exact=golden.exact,
            metadata=metadata_of(manifest),
            unknown=edge_inputs(golden.images.shape[1], golden.images.shape[2], 0)[1],
        )

    def judgement(self, candidate: Candidate) -> Judgement:
        """Return the same for every artifact."""
        del candidate
        return self._judgement

    def right_graph(self, candidate: Candidate) -> AbstractContextManager[None]:
        """Return none: samples are no graph."""
        del candidate
        return nullcontext()

    def checks(self) -> tuple[Check, ...]:
        """Check preprocessing and labels."""
        return check_hard_files(self._bundle.manifest.preprocessing), check_labels(self._bundle)
