"""Writing and hashing files. A command that is killed leaves the old file or the new one, never a part of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import FileWriteError


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to.

    Move it into place when the block ends well, remove it when it does not.

    The temporary name keeps the target's suffix, because writers choose their format by it.

    Raises:
        FileWriteError: the folder cannot be created or written, or the disk is full.
    """
    temporary = target.with_name(f".{target.stem}.{os.urandom(4).hex()}.part{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (temporary, target, target.parent):
            raise
        raise FileWriteError(
            f"cannot write {target}: {error.strerror or error}. Free some space or choose a folder you may write to."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_bytes(target: Path, content: bytes) -> None:
    """Replace ``target`` by ``content`` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Replace ``target`` by ``content`` (UTF-8, newlines as given) atomically."""
    write_bytes(target, content.encode())


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, reading it in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def point_link(link: Path, target: Path) -> None:
    """Make ``link`` a relative symbolic link to ``target``, replacing an older link in one step.

    On a file system without symbolic links a text file holding the relative path is written instead; ``follow_link``
    reads both.
    """
    relative = os.path.relpath(target, link.parent)
    temporary = link.with_name(f".{link.name}.{os.urandom(4).hex()}")
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.symlink_to(relative, target_is_directory=True)
    except OSError:
        temporary.write_text(relative, encoding="utf-8")
    temporary.replace(link)


def follow_link(link: Path) -> Path:
    """Return the path that ``link`` stands for, whichever way ``point_link`` had to write it."""
    if link.is_file() and not link.is_symlink():
        return (link.parent / link.read_text(encoding="utf-8").strip()).resolve()
    return link.resolve()
