"""Comparing a folder with its manifest.

Exactly the listed files, each the described one, none of them a way out of the folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from toolkit.bundle.manifest import MANIFEST_NAME, MODEL_CARD_NAME, SIGNATURE_NAME, FileRecord, Manifest
from toolkit.bundle.trust.external_data import external_locations
from toolkit.bundle.trust.names import name_problem, names_problem
from toolkit.bundle.trust.strict_json import parse_json
from toolkit.bundle.versions import upgraded
from toolkit.errors import BundleError, IntegrityError
from toolkit.files import open_regular, sha256_file

UNLISTED = (MANIFEST_NAME, SIGNATURE_NAME)
"""Files of a bundle that no manifest lists."""
ONNX_FAMILY = "onnx"
"""Of the artifacts that an ONNX reader opens whatever their name is. ``formats.registry`` opens nothing as another
family than its artifact says, so a manifest cannot keep a file from being looked through by saying a wrong one."""
LARGEST_MANIFEST = 64 * 2**20
"""Bytes; a thousand classes with their confusion matrix take about a fifth of it."""


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
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise IntegrityError(_not_plain(path, mode))
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > largest:
        raise IntegrityError(
            f"{path} is larger than {largest} bytes, so it is not what toolkit writes. Copy the bundle again."
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
    except ValueError as error:
        raise BundleError(
            f"{path} is not JSON ({error}). The file was cut or edited: copy the bundle again."
        ) from error
    try:
        return Manifest.model_validate(upgraded(raw))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BundleError(
            f"{path} is malformed at {where}: {first['msg']}. The file was edited: copy the bundle again."
        ) from error
    except ValueError as error:
        raise BundleError(f"{path} has {error}. Update toolkit, or export again.") from error


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
            require_size(where / name, sizes[name], record)
            if sha256_file(folder / name) != record.sha256:
                raise IntegrityError(
                    f"{where / name} is not the file that the manifest describes (its SHA-256 differs). Copy the "
                    "bundle again."
                )
    except OSError as error:
        raise BundleError(f"{error.filename or folder} cannot be read: {error.strerror}.") from error
    onnx = {artifact.file for artifact in manifest.artifacts if artifact.family == ONNX_FAMILY}
    for name in files:
        # By its name any other program may take a file for ONNX, whatever the manifest says that it is.
        if name in onnx or name.endswith(".onnx"):
            _check_pointers(folder, where, name, files)


def require_size(path: Path, size: int, record: FileRecord) -> None:
    """Refuse a file of another size than its record says.

    Raises:
        IntegrityError: naming the file.
    """
    if size != record.size_bytes:
        raise IntegrityError(
            f"{path} has {size} bytes, its manifest says {record.size_bytes}. The file was cut or changed: copy the "
            "bundle again."
        )


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
                        f"{_said(where / name)} is not listed in the manifest of the bundle. Remove it, or copy the "
                        "bundle again."
                    )
                if stat.S_ISDIR(status.st_mode) and name in folders:
                    waiting.append(f"{name}/")
                elif not stat.S_ISREG(status.st_mode):
                    raise IntegrityError(_not_plain(where / name, status.st_mode))
                else:
                    yield name, status.st_size


def _check_pointers(folder: Path, where: Path, name: str, files: Mapping[str, FileRecord]) -> None:
    """Refuse an ONNX file that keeps data anywhere but in listed files of the bundle."""
    try:
        locations = set(external_locations(folder / name))
    except ValueError as error:
        raise BundleError(
            f"{where / name} cannot be looked through for paths that lead out of the bundle: {error}. Export again."
        ) from error
    for location in sorted(locations):
        if name_problem(location) is not None or str(PurePosixPath(name).parent / location) not in files:
            raise IntegrityError(
                f"{where / name} keeps weights in {location!r}, which is no file of the bundle. Use only bundles "
                "whose files are all inside."
            )


def _not_plain(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return (
            f"{_said(path)} is a symbolic link; a bundle holds plain files only. Copy the bundle with links resolved."
        )
    kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
    return f"{_said(path)} is {kind}; a bundle has a plain file there. Copy the bundle again."


def _said(path: Path) -> str:
    """Return a path as text that can be printed; names that nobody checked may hold anything."""
    text = str(path)
    return text if text.isprintable() else repr(text)
