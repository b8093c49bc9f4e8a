"""A bundle as one file.

The same bundle is the same bytes on every machine, and nothing is unpacked that was not checked.

The file is a plain tar archive (ustar,
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06), which every system can list and
unpack without toolkit. It is not compressed: weights hardly shrink, and compressors give other bytes from version to
version. It is not a zip: there names and sizes stand in two places, and readers differ in which one they believe. The
manifest comes first,
the other names follow in order, and times, owners and modes are fixed. So there is exactly one header that a member can
have; any other is refused, and with it links, devices and extensions. The headers are written here because ``tarfile``
has changed its own between versions.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from toolkit.bundle.content import require_size
from toolkit.bundle.folder import Bundle
from toolkit.bundle.manifest import MANIFEST_NAME, MODEL_CARD_NAME, SIGNATURE_NAME, FileRecord
from toolkit.bundle.trust.check import LARGEST_MANIFEST, check_folder, listed_files, parse_manifest
from toolkit.bundle.trust.names import name_problem
from toolkit.bundle.trust.signature import LARGEST_FILE, check_signature, read_signature
from toolkit.errors import BundleError, FileWriteError, IntegrityError
from toolkit.files import atomic_path, open_regular, sync_files
from toolkit.printable import printable

SUFFIX = ".tar"
BLOCK = 512
END = bytes(2 * BLOCK)
PIECE = 2**20
"""Bytes that are copied at once."""
REGULAR = b"0"
"""Type of a member that is a file."""
KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"5": "a folder", b"6": "a pipe"}
"""Other types, as a person calls them."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    offset: int
    """Where its content starts in the archive."""

    @property
    def padding(self) -> int:
        """Bytes between its content and the next block."""
        return -self.size % BLOCK


def pack(path: str | Path, target: Path | None = None) -> Path:
    """Write a bundle as one archive, replacing an older one. The bundle is checked first.

    Args:
        path: the bundle's folder, or a run folder that has one.
        target: the file to write; the bundle's name with ``.tar``, in the current folder, by default.

    Returns:
        The file that was written.

    Raises:
        BundleError: there is no bundle, or it is malformed.
        IntegrityError: a file is not the one that the manifest describes.
        SignatureError: the bundle has a signature that is stale.
        FileWriteError: the archive cannot be written, or would become a file of the bundle.
    """
    bundle = Bundle.open(path)
    name = bundle.manifest.name
    if target is None and (name_problem(name) is not None or "/" in name):
        raise FileWriteError(f"the bundle's name {name!r} cannot name a file: name the archive with -o.")
    target = target or Path(f"{name}{SUFFIX}")
    if bundle.path.resolve() in target.resolve().parents:
        raise FileWriteError(
            f"{target} is inside the bundle, where it would be a file that nobody listed: write the archive "
            "elsewhere with -o."
        )
    signature = read_signature(bundle.path)
    with atomic_path(target) as temporary, temporary.open("wb") as archive:
        _write_content(archive, MANIFEST_NAME, bundle.manifest_bytes)
        if signature is not None:
            _write_content(archive, SIGNATURE_NAME, signature)
        for listed, record in sorted(listed_files(bundle.manifest, bundle.path).items()):
            if listed != MODEL_CARD_NAME or bundle.file(listed).exists():
                _write_file(archive, listed, bundle.file(listed), record)
        archive.write(END)
    return target


def unpack(archive: Path, target: Path | None = None, verify_key: str | Path | None = None) -> Path:
    """Make a bundle of an archive that ``pack`` wrote.

    The signature is checked first, then the manifest, then name, place and size of every member; only then is anything
    written, so an archive cannot take more space than it has itself. The folder appears when all of it was checked; a
    kill leaves no manifest behind.

    Args:
        archive: the file.
        target: the folder to make; the name of the file without ``.tar``, in the current folder, by default.
        verify_key: PEM file of the public key that must have signed the bundle.

    Returns:
        The folder.

    Raises:
        BundleError: the file is not such an archive, or its manifest is malformed.
        SignatureError: see ``Bundle.open``.
        IntegrityError: naming the member that is not what the manifest describes, or that an archive cannot have.
        FileWriteError: the target exists, or cannot be written.
    """
    if target is None and archive.suffix != SUFFIX:
        raise FileWriteError(f"{archive} does not end in {SUFFIX}: name the folder to make with -o.")
    target = target or Path(archive.stem)
    if os.path.lexists(target):
        raise FileWriteError(f"{target} exists already: choose another folder with -o, or remove it.")
    try:
        with open_regular(archive) as file:
            _unpack(file, archive, target, verify_key)
    except OSError as error:
        raise BundleError(f"{printable(archive)} cannot be read: {error.strerror or error}.") from error
    return target


def _unpack(file: BinaryIO, archive: Path, target: Path, verify_key: str | Path | None) -> None:
    waiting = _members(file, archive)
    content = _content(file, next(waiting, None), MANIFEST_NAME, LARGEST_MANIFEST, archive)
    member, signature = next(waiting, None), None
    if member is not None and member.name == SIGNATURE_NAME:
        signature = _content(file, member, SIGNATURE_NAME, LARGEST_FILE, archive)
        member = next(waiting, None)
    check_signature(signature, content, archive, verify_key)
    manifest = parse_manifest(content, archive / MANIFEST_NAME)
    files = listed_files(manifest, archive)
    members: list[_Member] = []
    while member is not None:
        _require_next(member, members, files, archive)
        members.append(member)
        member = next(waiting, None)
    if missing := files.keys() - {member.name for member in members} - {MODEL_CARD_NAME}:
        raise IntegrityError(f"{archive} lacks {min(missing)}, which its manifest lists. Copy the archive again.")
    with _appearing(target) as folder:
        for member in members:
            _extract(file, member, folder / member.name)
        check_folder(folder, manifest, archive)
        if signature is not None:
            (folder / SIGNATURE_NAME).write_bytes(signature)
        # Last, because a folder without a manifest is no bundle.
        (folder / MANIFEST_NAME).write_bytes(content)
        sync_files(folder)


def _members(file: BinaryIO, archive: Path) -> Iterator[_Member]:
    """Yield the members by their headers, and check that the archive ends where it should."""
    total = file.seek(0, os.SEEK_END)
    at = 0
    while True:
        file.seek(at)
        block = file.read(BLOCK)
        if block == END[:BLOCK]:
            break
        member = _parsed(block, at, archive)
        at = member.offset + member.size + member.padding
        if at > total:
            raise IntegrityError(f"{archive} is cut off inside {member.name}. Copy the archive again.")
        file.seek(at - member.padding)
        if any(file.read(member.padding)):
            raise IntegrityError(f"{archive} holds data after the end of {member.name}. Pack the bundle again.")
        yield member
    file.seek(at)
    if total != at + len(END) or file.read(len(END)) != END:
        raise IntegrityError(
            f"{archive} has {total} bytes, it should end at {at + len(END)} with zeros: it was cut, or something was "
            "added."
        )


def _parsed(block: bytes, at: int, archive: Path) -> _Member:
    try:
        name = block[:100].rstrip(b"\0").decode()
        size = int(block[124:135], 8)
    except ValueError:
        name, size = "", -1
    if len(block) != BLOCK or size < 0:
        raise BundleError(
            f"{archive} is not an archive that 'toolkit pack' wrote: byte {at} should start a file. Copy it again."
        )
    if block[156:157] != REGULAR:
        kind = KINDS.get(block[156:157], "an extension")
        raise IntegrityError(
            f"{archive} holds {name!r} as {kind}; 'toolkit pack' writes plain files only. Pack the bundle again."
        )
    if problem := name_problem(name):
        raise IntegrityError(f"{archive} holds {name!r}, which {problem}.")
    if block != _header(name, size):
        raise IntegrityError(
            f"{archive} holds {name} with other times, owners or modes than 'toolkit pack' writes. Pack the bundle "
            "again."
        )
    return _Member(name, size, at + BLOCK)


def _require_next(member: _Member, before: list[_Member], files: dict[str, FileRecord], archive: Path) -> None:
    if member.name in (MANIFEST_NAME, SIGNATURE_NAME) or (before and member.name <= before[-1].name):
        raise IntegrityError(f"{archive} holds {member.name} twice or out of order. Pack the bundle again.")
    if member.name not in files:
        raise IntegrityError(f"{archive} holds {member.name}, which its manifest does not list. Pack the bundle again.")
    require_size(archive / member.name, member.size, files[member.name])


def _content(file: BinaryIO, member: _Member | None, name: str, largest: int, archive: Path) -> bytes:
    if member is None or member.name != name:
        actual = "nothing" if member is None else member.name
        raise BundleError(
            f"{archive} is not an archive that 'toolkit pack' wrote: it starts with {actual} instead of {name}."
        )
    if member.size > largest:
        raise IntegrityError(
            f"{archive / name} is larger than {largest} bytes, so it is not what toolkit writes. Pack the bundle again."
        )
    file.seek(member.offset)
    return file.read(member.size)


def _extract(file: BinaryIO, member: _Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file.seek(member.offset)
    left = member.size
    with path.open("xb") as written:
        while left and (piece := file.read(min(PIECE, left))):
            written.write(piece)
            left -= len(piece)


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` and give it that name when the block ends well.

    Remove it when it does not.
    """
    folder = target.parent / f".{target.name}.{os.urandom(4).hex()}.part"
    try:
        folder.mkdir(parents=True)
        yield folder
        folder.rename(target)
    except OSError as error:
        raise FileWriteError(
            f"cannot write {target}: {error.strerror or error}. Free some space or choose a folder you may write to."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_content(archive: BinaryIO, name: str, content: bytes) -> None:
    archive.write(_header(name, len(content)))
    archive.write(content)
    archive.write(bytes(-len(content) % BLOCK))


def _write_file(archive: BinaryIO, name: str, path: Path, record: FileRecord) -> None:
    archive.write(_header(name, record.size_bytes))
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            archive.write(piece)
    if digest.hexdigest() != record.sha256:
        raise IntegrityError(f"{path} was changed while it was packed. Pack the bundle again.")
    archive.write(bytes(-record.size_bytes % BLOCK))


def _header(name: str, size: int) -> bytes:
    """Return the one header of a regular file: mode 644, owner 0 without a name, 1 January 1970."""
    number = b"%07o\0"
    before = (
        name.encode().ljust(100, b"\0") + number % 0o644 + number % 0 + number % 0 + b"%011o\0" % size + b"%011o\0" % 0
    )
    after = REGULAR + bytes(100) + b"ustar\0" + b"00" + bytes(64) + number % 0 + number % 0 + bytes(155 + 12)
    # The sum is taken with blanks in its own place.
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after
