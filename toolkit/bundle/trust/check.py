"""Comparing a folder with its manifest.

Exactly the listed files, each the described one, none of them a way out of the folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from toolkit.bundle.content import (
    Content,
    not_plain,
    read_described,
    regular_file,
    require_digest,
    said,
)
from toolkit.bundle.manifest import MANIFEST_NAME, MODEL_CARD_NAME, SIGNATURE_NAME, ArtifactRecord, FileRecord, Manifest
from toolkit.bundle.trust.external_data import external_locations
from toolkit.bundle.trust.names import name_problem, names_problem
from toolkit.bundle.trust.strict_json import LimitError, parse_json
from toolkit.bundle.versions import upgraded
from toolkit.errors import BundleError, IntegrityError
from toolkit.printable import printable

UNLISTED = (MANIFEST_NAME, SIGNATURE_NAME)
"""Files of a bundle that no manifest lists."""
ONNX_FAMILY = "onnx"
"""Of the artifacts that an ONNX reader opens whatever their name is. ``formats.registry`` opens nothing as another
family than its artifact says, so a manifest cannot keep a file from being looked through by saying a wrong one."""
LARGEST_MANIFEST = 4 * 2**20
"""Bytes; a thousand classes with their confusion matrix take about half of it."""


def small_file(path: Path, largest: int) -> bytes:
    """Return the content of a file that has to be small and must not be a link.

    Args:
        path: the file.
        largest: bytes that it may have.

    Raises:
        BundleError: it cannot be read.
        IntegrityError: it is a link, no regular file, or too large.
    """
    try:
        with regular_file(path) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > largest:
        raise IntegrityError(
            f"{path} is larger than {largest} bytes, so it is not what toolkit writes. Copy the bundle again, or "
            "export it again if an older toolkit wrote it."
        )
    return content


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """Parse a manifest of any readable version.

    Args:
        content: the bytes of the file.
        path: the file, for messages.

    Raises:
        BundleError: it is not JSON, of an unknown schema version, or malformed.
    """
    try:
        raw = parse_json(content)
    except LimitError as error:
        raise BundleError(f"{path} is malformed: {error}. The file was edited: copy the bundle again.") from error
    except ValueError as error:
        raise BundleError(
            f"{path} is not JSON ({error}). The file was cut or edited: copy the bundle again."
        ) from error
    try:
        return Manifest.model_validate(upgraded(raw))
    except ValidationError as error:
        raise BundleError(
            f"{path} is malformed{first_problem(error)}. The file was edited: copy the bundle again."
        ) from error
    except ValueError as error:
        raise BundleError(f"{path} has {error}. Update toolkit, or export again.") from error


def first_problem(error: ValidationError) -> str:
    """Return what is wrong with a record in the first place, as ``at FIELD: REASON`` after a blank, or ``: REASON``."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = printable(first["msg"].removeprefix("Value error, "))
    return f" at {where}: {reason}" if where else f": {reason}"


def listed_files(manifest: Manifest, where: Path) -> dict[str, FileRecord]:
    """Return every file that a manifest lists, artifacts first.

    Args:
        manifest: the manifest.
        where: the bundle, for messages.

    Raises:
        IntegrityError: a name is not one that a file of a bundle may have, or stands there twice.
    """
    pairs = [pair for artifact in manifest.artifacts for pair in artifact.all_files.items()] + list(
        manifest.files.items()
    )
    if problem := names_problem((name for name, _ in pairs), own=UNLISTED):
        raise IntegrityError(f"the manifest of {where} names {problem}.")
    return dict(pairs)


def check_folder(folder: Path, manifest: Manifest, where: Path | None = None) -> None:
    """Check that a folder holds exactly what a manifest says, before anything else reads a file of it.

    Args:
        folder: the files.
        manifest: what they should be.
        where: what messages call the folder, if not by its path.

    Raises:
        BundleError: the folder cannot be read.
        IntegrityError: naming the file that is missing, added, changed, a link, no regular file, or points out of the
            folder.
    """
    where = where or folder
    files = listed_files(manifest, where)
    onnx = {artifact.file for artifact in manifest.artifacts if artifact.family == ONNX_FAMILY}
    try:
        sizes = dict(_plain_files(folder, where, files))
        for name, record in files.items():
            # The model card is replaced after the manifest; a kill in between leaves it missing, which harms nobody.
            if name == MODEL_CARD_NAME and name not in sizes:
                continue
            if name not in sizes:
                raise IntegrityError(
                    f"the bundle {where} lacks {name}, which its manifest lists. Copy the whole folder again."
                )
            if sizes[name] != record.size_bytes:
                read_described(folder / name, record, where / name)  # says how it differs
            # By its name any other program may take a file for ONNX, whatever the manifest says that it is.
            if name in onnx or name.endswith(".onnx"):
                _check_pointers(read_described(folder / name, record, where / name), where, name, files)
            else:
                require_digest(folder / name, record, where / name)
    except OSError as error:
        raise BundleError(f"{error.filename or folder} cannot be read: {error.strerror}.") from error


def read_artifact(folder: Path, artifact: ArtifactRecord, listed: Mapping[str, FileRecord]) -> Content:
    """Read an artifact once, and hold every byte of it against the manifest.

    Args:
        folder: the bundle.
        artifact: its entry in a manifest.
        listed: every file that the manifest lists, see ``listed_files``.

    Raises:
        BundleError: a file cannot be read, or is no ONNX file though its family is.
        IntegrityError: a file is not the one that the manifest describes, or keeps weights outside the bundle.
    """

    def read(name: str) -> bytes:
        return read_described(folder / name, listed[name], folder / name)

    files = {name: read(name) for name in artifact.all_files}
    if artifact.family == ONNX_FAMILY:
        pointed_at = _check_pointers(files[artifact.file], folder, artifact.file, listed)
        files |= {name: read(name) for name in pointed_at if name not in files}
    return Content(folder / artifact.file, artifact.file, files)


def _plain_files(folder: Path, where: Path, files: Mapping[str, FileRecord]) -> Iterator[tuple[str, int]]:
    """Yield name and size of every file below a folder.

    Nothing but listed files and the folders on the way to them is let through.
    """
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name, status = f"{inside}{entry.name}", entry.stat(follow_symlinks=False)
                if not (name in files or name in folders or name in UNLISTED):
                    raise IntegrityError(
                        f"{said(where / name)} is not listed in the manifest of the bundle. Remove it, or copy the "
                        "bundle again."
                    )
                if stat.S_ISDIR(status.st_mode) and name in folders:
                    waiting.append(f"{name}/")
                elif not stat.S_ISREG(status.st_mode):
                    raise IntegrityError(not_plain(where / name, status.st_mode))
                else:
                    yield name, status.st_size


def _check_pointers(content: bytes, where: Path, name: str, files: Mapping[str, FileRecord]) -> set[str]:
    """Refuse an ONNX file that keeps data anywhere but in listed files of the bundle; return which these are."""
    try:
        locations = set(external_locations(content))
    except ValueError as error:
        raise BundleError(
            f"{where / name} cannot be looked through for paths that lead out of the bundle: {error}. Export again."
        ) from error
    pointed_at = set()
    for location in sorted(locations):
        pointed_at.add(str(PurePosixPath(name).parent / location))
        if name_problem(location) is not None or not pointed_at <= files.keys():
            raise IntegrityError(
                f"{where / name} keeps weights in {location!r}, which is no file of the bundle. Use only bundles "
                "whose files are all inside."
            )
    return pointed_at
