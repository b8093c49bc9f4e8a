"""Two bundles, artifact by artifact: is the new model still close to the one in production? Imports no torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from toolkit.bundle import ArtifactRecord, Bundle, Manifest
from toolkit.bundle.limits import limits_of
from toolkit.compare.tolerances import OTHER_WEIGHTS
from toolkit.errors import BundleError, ImageError, first_line
from toolkit.formats.base import Session
from toolkit.formats.opening import choose_artifact, not_opened, open_artifact
from toolkit.formats.registry import get_format
from toolkit.preprocess import list_folder, not_images, prepare_batch
from toolkit.printable import printable
from toolkit.results import Check, ParityReport
from toolkit.verify.candidate import Candidate, candidates_of
from toolkit.verify.expected import Expected, Judgement, golden_of, metadata_of, run_reference, with_truths
from toolkit.verify.inputs import Images, Inputs
from toolkit.verify.judge import judge
from toolkit.verify.labels import check_labels, check_same_order, targets_of
from toolkit.verify.options import VerifyOptions


def verify_against(
    path: Path, other: Path, *, data: Path | None = None, options: VerifyOptions | None = None
) -> ParityReport:
    """Compare each artifact of a bundle with that of another bundle, or with the other's preferred one.

    Bundles of the same weights are held to the tolerance of the artifact's precision; other weights to agreement and
    accuracy.

    Args:
        path: the bundle that is judged.
        other: the bundle that is right by definition.
        data: a folder of images, each prepared as its bundle says; images in folders named like labels count for
            accuracy too. By default the golden images of both bundles.
        options: device, threads, progress, tolerances; ``bisect`` where the other artifact is ONNX too.

    Raises:
        BundleError: a bundle is missing or malformed, or the two cannot be compared.
        ExportError: an artifact's format is not known here.
        ImageError: the folder has no images, or one cannot be read.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the engine of no artifact is installed. Where only some are missing, the report names
            these artifacts.
        RecipeError: the tolerances are not valid.
    """
    options = options or VerifyOptions()
    new, old = options.opened(path), options.opened(other)
    if set(new.manifest.labels) != set(old.manifest.labels) or len(new.manifest.labels) != len(old.manifest.labels):
        raise BundleError(
            f"{new.path} and {old.path} do not tell the same classes apart: a service cannot change from one to the "
            "other."
        )
    candidates = candidates_of(new, options)
    reference = OtherBundle(new, old, data, options)
    return judge(new.manifest.name, [reference.held_to_both(candidate) for candidate in candidates], reference, options)


def _difference(new: Manifest, old: Manifest) -> str | None:
    """Say why the single values of two bundles must differ; None where they are of one network."""
    if new.origin.model_sha256 != old.origin.model_sha256:
        return "of other weights"
    meanings = [{output.name: output.meaning for output in manifest.outputs} for manifest in (new, old)]
    return None if meanings[0] == meanings[1] else "whose outputs have another meaning"


class OtherBundle:
    """What the artifacts of another bundle say (see ``judge.Reference``)."""

    def __init__(self, new: Bundle, old: Bundle, data: Path | None, options: VerifyOptions) -> None:
        self._new, self._old = new, old
        self._options = options
        differs = _difference(new.manifest, old.manifest)
        self._same_network = differs is None
        self.name = f"the bundle {old.manifest.name}" + (
            "" if differs is None else f" ({differs}: agreement and accuracy are judged, single values are not)"
        )
        self._mine, self._theirs = (
            _golden_images(new, old) if data is None else _from_folder(new, old, data, options.max_pixels)
        )

    def held_to_both(self, candidate: Candidate) -> Candidate:
        """Hold an artifact to the coarser precision of the two; of other weights, to what a new model is held to."""
        overrides = self._options.tolerances
        if not self._same_network:
            update = {**OTHER_WEIGHTS, **(overrides or {})}
            return replace(candidate, tolerance=candidate.tolerance.model_copy(update=update))
        counterpart = self._counterpart(candidate)
        precision = get_format(counterpart.format, counterpart.family).precision
        other = limits_of(counterpart, precision, overrides).tolerance
        limits = max(
            (candidate.tolerance, other),
            key=lambda known: np.inf if known.logits_relative is None else known.logits_relative,
        )
        return replace(candidate, tolerance=limits)

    def judgement(self, candidate: Candidate) -> Judgement:
        """Run the artifact of the same format, or the preferred one, over the images as its own bundle prepares them.

        Raises:
            MissingDependencyError: its engine is not installed.
            BundleError: it cannot run them, or returns something else than its manifest says.
        """
        new, old, mine = self._new.manifest, self._old.manifest, self._mine
        counterpart = self._counterpart(candidate)
        session = open_artifact(self._old, counterpart, self._options.device, self._options.thread_count)
        expected = self._run(session, counterpart)
        # The new bundle's pixels stand beside what the old one says of its own: preprocessing is part of what is
        # compared.
        outputs = _reordered(expected, old.labels, new.labels)
        return Judgement(
            contract=new.input,
            labels=new.labels,
            inputs=mine,
            reference=with_truths(replace(outputs, images=mine.images), mine, new.labels),
            golden=golden_of(self._new) if self._same_network else None,
            metadata=metadata_of(new),
        )

    def _run(self, session: Session, counterpart: ArtifactRecord) -> Expected:
        inputs = Inputs(self._mine.names, self._theirs, self._mine.test_images)
        where = f"{self._old.path / counterpart.file}, which is compared with,"
        try:
            expected = run_reference(session, inputs, self._old.manifest.input)
        except Exception as error:  # an engine may raise anything
            raise BundleError(f"{where} cannot run: {first_line(error)}") from error
        wanted = (len(inputs.names), len(self._old.manifest.labels))
        for name, values in expected.outputs.items():
            if values.shape != wanted:
                raise BundleError(f"{where} returns {name} {list(values.shape)} instead of {list(wanted)}.")
        return expected

    def right_graph(self, candidate: Candidate) -> AbstractContextManager[Path | None]:
        """Return the file of the other artifact, where it is an ONNX graph too."""
        counterpart = self._counterpart(candidate)
        bisectable = get_format(counterpart.format, counterpart.family).bisectable
        return self._old.content(counterpart).as_files() if bisectable else nullcontext()

    def checks(self) -> tuple[Check, ...]:
        """Check the labels, and that both bundles have them in the same order."""
        return check_labels(self._new), check_same_order(self._new, self._old)

    def _counterpart(self, candidate: Candidate) -> ArtifactRecord:
        wanted = candidate.artifact.format
        same = next((known for known in self._old.manifest.artifacts if known.format == wanted), None)
        return same if same and not_opened(self._old, same) is None else choose_artifact(self._old)


def _reordered(expected: Expected, theirs: tuple[str, ...], mine: tuple[str, ...]) -> Expected:
    """Put the classes of the other bundle in the order of this one."""
    columns = [theirs.index(label) for label in mine]
    return replace(expected, outputs={name: values[:, columns] for name, values in expected.outputs.items()})


def _golden_images(new: Bundle, old: Bundle) -> tuple[Inputs, Images]:
    """Return the golden images of both bundles, which are prepared already, for each of them."""
    both = {"this bundle": golden_of(new), "the other bundle": golden_of(old)}
    mine, theirs = both.values()
    if mine.images.shape[1:] != theirs.images.shape[1:]:
        raise BundleError(
            f"{new.path} and {old.path} take images of different sizes, so that golden samples fit only one: give "
            "images with --data."
        )
    names: dict[str, list[str]] = {"images": [], "edges": []}
    pixels: dict[str, list[Images]] = {"images": [], "edges": []}
    truths: list[str | None] = []
    for which, golden in both.items():
        for kind, rows in (("images", slice(golden.test_images)), ("edges", slice(golden.test_images, None))):
            names[kind] += [f"{name} of {which}" for name in golden.names[rows]]
            pixels[kind].append(golden.images[rows])
        truths += (golden.true_labels or ())[: golden.test_images]
    images = np.concatenate([*pixels["images"], *pixels["edges"]])
    known = targets_of(truths, new.manifest.labels)
    return Inputs((*names["images"], *names["edges"]), images, len(names["images"]), known), images


def _from_folder(new: Bundle, old: Bundle, data: Path, max_pixels: int) -> tuple[Inputs, Images]:
    """Return the images of a folder as the new bundle prepares them, and as the old one does."""
    listing = list_folder(data)
    paths = listing.images
    if not paths:
        left_out = not_images(printable(data), [other.name for other in listing.others])
        raise ImageError(
            f"there are no images in {printable(data)}: give a folder of image files."
            + (f" {left_out}." if left_out else "")
        )
    truths = tuple(path.parent.name if path.parent.name in new.manifest.labels else None for path in paths)
    images = prepare_batch(paths, new.manifest.preprocessing, max_pixels)
    names = tuple(printable(path.relative_to(data).as_posix()) for path in paths)
    return Inputs(names, images, len(names), targets_of(truths, new.manifest.labels)), prepare_batch(
        paths, old.manifest.preprocessing, max_pixels
    )
