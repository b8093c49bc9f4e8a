"""The bytes of an artifact, read once: what was hashed is what an engine gets.

A path that was checked says nothing about what it holds a moment later, to anybody who may write the folder. So every
file is read one time, hashed as it lies in memory, and handed over from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from toolkit.bundle.manifest import FileRecord
from toolkit.errors import BundleError, IntegrityError
from toolkit.files import NotRegularError, open_regular

LARGEST_TEXT = 64 * 2**20
"""Bytes of a file that is looked at for changed line ends; what a bundle holds as text has less."""


@dataclass(frozen=True)
class Content:
    """An artifact in memory, which nobody else can change."""

    where: Path
    """Where the main file was read from, for messages; it may hold something else by now."""
    name: str
    """The main file, as a path inside the bundle with forward slashes."""
    files: Mapping[str, bytes] = field(repr=False)
    """Every file of the artifact by such a path, the main one among them."""

    @classmethod
    def of(cls, path: Path, *further: Path) -> Content:
        """Read files that are the caller's own, as a format does to look at what it has just written.

        Args:
            path: the main file.
            further: files beside it.
        """
        return cls(path, path.name, {file.name: file.read_bytes() for file in (path, *further)})

    @property
    def main(self) -> bytes:
        """The main file."""
        return self.files[self.name]

    @contextlib.contextmanager
    def as_files(self) -> Iterator[Path]:
        """Write a private copy for an engine that needs a path; it is removed when the block ends.

        Yields:
            The main file. The others lie beside it as they do in the bundle, in a folder that only this user can enter.
        """
        with tempfile.TemporaryDirectory(prefix="toolkit-", ignore_cleanup_errors=True) as folder:
            for name, content in self.files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            yield Path(folder) / self.name


def read_described(path: Path, record: FileRecord, where: Path) -> bytes:
    """Read a file whose size and hash are known.

    Args:
        path: the file.
        record: what it should be.
        where: what messages call it.

    Raises:
        BundleError: it cannot be read.
        IntegrityError: it is a link, no regular file, or another file than the record describes.
    """
    try:
        with regular_file(path) as file:
            if (size := os.fstat(file.fileno()).st_size) != record.size_bytes:
                raise IntegrityError(_of_other_size(where, size, record, file.read(LARGEST_TEXT)))
            content = file.read(record.size_bytes)
    except OSError as error:
        raise BundleError(f"{where} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise IntegrityError(_changed(where))
    return content


def require_digest(path: Path, record: FileRecord, where: Path) -> None:
    """Refuse a file whose bytes are not those that its record describes; it is read in pieces.

    Args:
        path: the file.
        record: what it should be.
        where: what the message calls it.

    Raises:
        OSError: it cannot be read.
        IntegrityError: it is another file, a link, or no regular file.
    """
    with regular_file(path) as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != record.sha256:
            raise IntegrityError(_changed(where))


def require_size(where: Path, size: int, record: FileRecord) -> None:
    """Refuse a file of another size than its record says.

    Args:
        where: what the message calls it.
        size: how many bytes it has.
        record: what it should be.

    Raises:
        IntegrityError: naming the file.
    """
    if size != record.size_bytes:
        raise IntegrityError(_of_other_size(where, size, record))


def with_other_line_ends(content: bytes) -> tuple[bytes, bytes]:
    """Return a text as git may have found it before it changed its line ends: with LF alone, and with CRLF alone."""
    plain = content.replace(b"\r\n", b"\n")
    return plain, plain.replace(b"\n", b"\r\n")


def line_ends_changed(what: str) -> str:
    """Return the sentence on a text of which nothing but the line ends was changed.

    Args:
        what: the file, at the start of the sentence.
    """
    return (
        f"{what} has other line ends than it was written with, and is otherwise the same: git changes them where "
        "core.autocrlf is on. Write '* -text' into a .gitattributes of the repository, for the folder of the bundle, "
        "and check it out again; or copy the bundle without git."
    )


@contextlib.contextmanager
def regular_file(path: Path) -> Iterator[BufferedReader]:
    """Open a plain file to read, whatever lies there by now: no link is followed, and no pipe waited for.

    Raises:
        OSError: it cannot be read.
        IntegrityError: it is a link or no regular file.
    """
    try:
        opened = open_regular(path, follow_links=False)
    except NotRegularError as error:
        raise IntegrityError(not_plain(path, path.lstat().st_mode)) from error
    with opened as file:
        yield file


def not_plain(path: Path, mode: int) -> str:
    """Return the sentence on something that is no regular file."""
    if stat.S_ISLNK(mode):
        return f"{said(path)} is a symbolic link; a bundle holds plain files only. Copy the bundle with links resolved."
    kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
    return f"{said(path)} is {kind}; a bundle has a plain file there. Copy the bundle again."


def said(path: Path) -> str:
    """Return a path as text that can be printed; names that nobody checked may hold anything."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _of_other_size(where: Path, size: int, record: FileRecord, content: bytes = b"") -> str:
    """Return the sentence on a file of another size than its record says; it looks at the content as far as given."""
    if any(hashlib.sha256(text).hexdigest() == record.sha256 for text in with_other_line_ends(content)):
        return line_ends_changed(str(where))
    return (
        f"{where} has {size} bytes, its manifest says {record.size_bytes}. The file was cut or changed: copy the "
        "bundle again."
    )


def _changed(path: Path) -> str:
    return f"{path} is not the file that the manifest describes (its SHA-256 differs). Copy the bundle again."
