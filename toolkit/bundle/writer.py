"""Making a bundle on disk: the folder, its golden samples, manifest, model card, README and signature."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.bundle.folder import find_bundle
from toolkit.bundle.manifest import (
    GIT_ATTRIBUTES_NAME,
    GOLDEN_EXPECTED,
    GOLDEN_TEXT,
    LABELS_NAME,
    MANIFEST_NAME,
    MODEL_CARD_NAME,
    README_NAME,
    SIGNATURE_NAME,
    ArtifactRecord,
    FileRecord,
    Golden,
    GoldenCase,
    Manifest,
)
from toolkit.bundle.model_card import model_card
from toolkit.bundle.plain_text import labels_text, samples_text
from toolkit.bundle.readme import readme
from toolkit.bundle.trust.check import LARGEST_MANIFEST, check_folder, parse_manifest, small_file
from toolkit.bundle.trust.known import remember
from toolkit.bundle.trust.signature import Signature, make_signature
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import ExportError, FileWriteError
from toolkit.files import new_folder, sha256_file, write_text
from toolkit.printable import printable
from toolkit.results import GoldenLimits

MOST_CONFUSIONS = 1000
"""Classes up to which the manifest holds the confusion matrix; it grows with their square, and a service reads it at
every start."""


LATER_BYTES = 2**19
"""What verification, benchmarks and the intended use add to a manifest at most, about."""


@contextlib.contextmanager
def new_bundle(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` and put it in the target's place when the block ends well.

    See ``files.new_folder``.

    Raises:
        FileWriteError: the folder cannot be written.
    """
    with new_folder(target, "the bundle") as folder:
        yield folder


def file_record(path: Path) -> FileRecord:
    """Return size and SHA-256 of a file."""
    return FileRecord(sha256=sha256_file(path), size_bytes=path.stat().st_size)


@dataclass(frozen=True)
class GoldenFacts:
    """What a bundle says of its golden samples beside inputs and outputs."""

    edges: int = 0
    """How many of them, the last ones, are edge inputs."""
    rounding: Mapping[str, float] = field(default_factory=dict)
    """See ``Golden.rounding``."""
    limits: Mapping[str, GoldenLimits] = field(default_factory=dict)
    """See ``Golden.limits``."""


def write_golden(
    folder: Path,
    images: npt.NDArray[np.uint8],
    outputs: Mapping[str, npt.NDArray[np.float32]],
    sources: Sequence[str],
    true_labels: Sequence[str | None],
    labels: tuple[str, ...],
    facts: GoldenFacts | None = None,
) -> dict[str, FileRecord]:
    """Write golden samples: each input as raw bytes, what is expected of them as JSON.

    Args:
        folder: the bundle.
        images: uint8 ``[n, H, W, 3]``, prepared.
        outputs: ``logits`` and ``probabilities``, float32 ``[n, C]``.
        sources: name of each image.
        true_labels: class of each image, None where there is none.
        labels: all class names in order.
        facts: edge inputs, rounding and limits; by default all samples are images, of which nothing else is known.

    Returns:
        The files written, by path inside the bundle.

    Raises:
        ExportError: the network returns values that are not finite, which nothing can be compared with.
    """
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise ExportError(
            "the network returns values that are not finite on the golden samples: the run has diverged, so train it "
            "again."
        )
    facts = facts or GoldenFacts()
    records: dict[str, FileRecord] = {}
    cases = []
    (folder / "golden").mkdir()
    for index, image in enumerate(images):
        name = f"golden/{index:03d}.bin"
        (folder / name).write_bytes(np.ascontiguousarray(image).tobytes())
        records[name] = file_record(folder / name)
        logits, probabilities = (
            tuple(_shortest(value) for value in outputs[key][index]) for key in ("logits", "probabilities")
        )
        cases.append(
            GoldenCase(
                file=name,
                source=printable(sources[index]),
                true_label=true_labels[index],
                logits=logits,
                probabilities=probabilities,
                kind="image" if index < len(images) - facts.edges else "edge",
            )
        )
    golden = Golden(
        height=images.shape[1],
        width=images.shape[2],
        labels=labels,
        cases=tuple(cases),
        rounding=dict(facts.rounding),
        limits=dict(facts.limits),
    )
    golden.save(folder / GOLDEN_EXPECTED)
    records[GOLDEN_EXPECTED] = file_record(folder / GOLDEN_EXPECTED)
    return records


def _shortest(value: np.float32) -> float:
    """Return the number with the fewest digits that is this float32 again: the JSON is half as long."""
    return float(str(value))


def write_manifest(folder: Path, manifest: Manifest, own: bool = False) -> Manifest:
    """Write the manifest and the model card that says the same to a person.

    The first manifest of a folder also lists every file that is there, and gets what other languages read: a README,
    and labels and golden samples as plain text. Later ones list what the first did. A signature of the manifest before
    is removed, for it would be stale.

    The old card goes first and the new one comes last, so that a kill in between leaves a bundle that lacks its card,
    not one that contradicts it. Nothing half-written is ever inside the folder, where it would be a file that nobody
    listed.

    Args:
        folder: the bundle.
        manifest: what it is to say.
        own: this user has exported the bundle on this machine, which is remembered (see ``trust.known``).

    Returns:
        The manifest as it was written.

    Raises:
        ExportError: it would be larger than what is read.
        FileWriteError: the folder cannot be written.
    """
    manifest = manifest.model_copy(
        update={"artifacts": tuple(_with_tolerance(artifact) for artifact in manifest.artifacts)}
    )
    if not (folder / MANIFEST_NAME).exists():
        manifest = _with_all_files(folder, manifest)
    card = model_card(manifest)
    described = FileRecord(sha256=hashlib.sha256(card.encode()).hexdigest(), size_bytes=len(card.encode()))
    manifest = manifest.model_copy(update={"files": {**manifest.files, MODEL_CARD_NAME: described}})
    content = manifest.to_json()
    if (size := len(content.encode())) > LARGEST_MANIFEST:
        raise ExportError(
            f"the manifest of {folder} would have {size} bytes, and at most {LARGEST_MANIFEST} are read: use shorter "
            "names of classes, or fewer classes."
        )
    with _writing(folder), _staged(folder, MODEL_CARD_NAME, card) as new_card:
        with _staged(folder, MANIFEST_NAME, content) as new_manifest:
            # Nothing is taken away before both are on the disk, which may be full.
            for name in (SIGNATURE_NAME, MODEL_CARD_NAME):
                (folder / name).unlink(missing_ok=True)
            if own:
                # First, so that a kill in between leaves no bundle that is not remembered.
                remember(content.encode())
            new_manifest.replace(folder / MANIFEST_NAME)
        new_card.replace(folder / MODEL_CARD_NAME)
    return manifest


@contextlib.contextmanager
def _staged(folder: Path, name: str, content: str) -> Iterator[Path]:
    """Write a file beside the folder, from where it can be moved into it; remove it if it was not."""
    path = folder.resolve().with_name(f".{folder.resolve().name}.{name}")
    try:
        write_text(path, content)
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileWriteError(
            f"cannot write into the bundle {folder}: {error.strerror or error}. Copy it to where you may write."
        ) from error


def _with_tolerance(artifact: ArtifactRecord) -> ArtifactRecord:
    return (
        artifact
        if artifact.tolerance
        else artifact.model_copy(update={"tolerance": TOLERANCES.get(artifact.precision)})
    )


def _with_all_files(folder: Path, manifest: Manifest) -> Manifest:
    """Return the first manifest of a folder.

    With every file that export has put there, and without what would make it huge.
    """
    write_text(folder / README_NAME, readme(manifest))
    write_text(folder / LABELS_NAME, labels_text(manifest.labels))
    if (expected := folder / GOLDEN_EXPECTED).exists():
        write_text(folder / GOLDEN_TEXT, samples_text(manifest, Golden.from_json(expected.read_bytes())))
    write_text(folder / GIT_ATTRIBUTES_NAME, "* -text\n")
    artifacts = {name for artifact in manifest.artifacts for name in artifact.all_files}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    changes: dict[str, object] = {
        "files": {name: file_record(folder / name) for name in names if name not in artifacts}
    }
    manifest = manifest.model_copy(update=changes)
    # What grows with the classes goes first where it is too much; all of it stays in the run's evaluation.json.
    for part in ("confusion", "classes"):
        if manifest.evaluation and _size_with_what_follows(manifest, part) > LARGEST_MANIFEST:
            evaluation = manifest.evaluation.model_copy(update={part: ()})
            manifest = manifest.model_copy(update={"evaluation": evaluation})
    return manifest


def _size_with_what_follows(manifest: Manifest, part: str) -> int:
    """Return about how many bytes a manifest will have once it was verified and measured.

    A confusion matrix of too many classes counts as too large.
    """
    if part == "confusion" and len(manifest.labels) > MOST_CONFUSIONS:
        return LARGEST_MANIFEST + 1
    return len(manifest.to_json().encode()) + LATER_BYTES


def sign_bundle(path: str | Path, key_file: Path) -> Signature:
    """Sign a bundle, replacing an older signature. Its files are checked first.

    Args:
        path: the bundle's folder, or a run folder that has one.
        key_file: PEM file of an Ed25519 private key.

    Raises:
        BundleError: there is no bundle, or it is malformed.
        IntegrityError: a file is not the one that the manifest describes.
        SignatureError: the key cannot be used.
        MissingDependencyError: the package ``cryptography`` is not installed.
        FileWriteError: the signature cannot be written.
    """
    folder = find_bundle(Path(path))
    content = small_file(folder / MANIFEST_NAME, LARGEST_MANIFEST)
    check_folder(folder, parse_manifest(content, folder / MANIFEST_NAME))
    signature = make_signature(content, key_file)
    with _writing(folder), _staged(folder, SIGNATURE_NAME, signature.to_json()) as staged:
        staged.replace(folder / SIGNATURE_NAME)
    return signature
