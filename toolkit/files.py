"""Reading, writing and hashing files.

A command that is killed leaves the old file or the new one, never a part of one. What is read is a regular file: a pipe
would be waited for, and a device may have no end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import FileWriteError
from toolkit.printable import printable

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_PROBE_BYTES = 2**16
LOCK_ATTEMPTS = 5
"""With 10 ms between them: whoever only looks whether a folder is written holds its lock for less."""
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegularError(OSError):
    """Something that is no regular file was to be read. ``strerror`` says what it is, to quote in a sentence."""


def size_text(count: int) -> str:
    """Return bytes as decimal megabytes or gigabytes, with the unit."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` and ``~name`` at its start written out; of a user that there is not, as it is.

    ``Path.expanduser`` raises there, though a folder may well be called so.
    """
    return Path(os.path.expanduser(path))


def not_regular(mode: int) -> str | None:
    """Say what ``st_mode`` stands for, as "it is a pipe"; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return f"it is {next((kind for test, kind in _KINDS if test(mode)), 'no regular file')}"


_FOREIGN = (
    (b"version https://git-lfs", "it is the pointer of Git LFS and not the file itself: fetch it with 'git lfs pull'"),
    (b"<!doctype html", "it is a web page, as a download that failed leaves it: fetch it again"),
    (b"<html", "it is a web page, as a download that failed leaves it: fetch it again"),
)
"""How files begin that stand where another one was wanted, in lower case, and what to do about them."""


def stands_for_another(head: bytes) -> str | None:
    """Say what a file is that is often found in the place of any other one; None if it is not such a file.

    Args:
        head: its first 64 bytes or more.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((reason for begins, reason in _FOREIGN if start.startswith(begins)), None)


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> io.BufferedReader:
    """Open a regular file for reading, or what a link leads to if that is one.

    Args:
        path: the file.
        follow_links: False to refuse a link; Windows knows no such flag, and its links need rights of their own.

    Raises:
        NotRegularError: it is a folder, a pipe, a socket or a device; nothing is waited for.
        OSError: it cannot be opened.
    """
    # Before it is opened, because opening a device can have effects; and again once it is open, because by then the
    # path may lead elsewhere. O_NONBLOCK keeps a pipe that appears in between from being waited for.
    _require_regular((os.stat if follow_links else os.lstat)(path).st_mode, path)
    descriptor = os.open(path, _OPEN_FLAGS | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0)))
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file (see ``open_regular``)."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the content of a regular file (see ``open_regular``) as text, with ends of lines as line feeds.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_regular(path).decode().replace("\r\n", "\n")


def _require_regular(mode: int, path: str | os.PathLike[str]) -> None:
    if (kind := not_regular(mode)) is not None:
        raise NotRegularError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, kind, os.fspath(path))


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to.

    Move it into place when the block ends well, remove it when it does not.

    The temporary name keeps the target's suffix, because writers choose their format by it.

    Raises:
        FileWriteError: the folder cannot be created or written, or the disk is full.
    """
    temporary = target.with_name(f".{target.stem}.{os.urandom(4).hex()}.part{target.suffix}")
    with contextlib.suppress(OSError):
        if (kind := not_regular(target.stat().st_mode)) is not None:
            raise FileWriteError(
                f"cannot write {printable(target)}: {kind}. Name a file that is new or may be replaced."
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (temporary, target, *target.parents):
            raise
        raise _not_written(str(target), error.strerror or str(error)) from error
    except Exception as error:  # of whoever writes, see _no_room
        if isinstance(error, FileWriteError) or (reason := _no_room(target.parent)) is None:
            raise
        raise _not_written(str(target), reason) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def new_folder(target: Path, what: str) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` and put it in the target's place when the block ends well.

    Remove it when it does not, and with it the folders above that were made for it. A kill between the two renames
    leaves the old folder under ``.NAME.old``, from where the next call restores it.

    Args:
        target: the folder, which is replaced if it exists.
        what: what it is, for the message.

    Raises:
        FileWriteError: it cannot be written.
    """
    building = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    above: list[Path] = []
    try:
        above += [folder for folder in target.absolute().parents if not folder.exists()]
        if old.exists() and not target.exists():
            old.rename(target)
        for leftover in (building, old):
            shutil.rmtree(leftover, ignore_errors=True)
        building.mkdir(parents=True)
        yield building
        if target.exists():
            target.rename(old)
        building.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise _not_written(f"{what} {target}", error.strerror or str(error)) from error
    except Exception as error:  # of whoever writes, see _no_room
        if isinstance(error, FileWriteError) or (reason := _no_room(building)) is None:
            raise
        raise _not_written(f"{what} {target}", reason) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        for folder in above:
            with contextlib.suppress(OSError):  # what was written is in it
                folder.rmdir()


def _not_written(what: str, reason: str) -> FileWriteError:
    return FileWriteError(f"cannot write {what}: {reason}. Free some space or choose a folder you may write to.")


def _no_room(folder: Path) -> str | None:
    """Say why not even a small file can be written into a folder; None if one can.

    Libraries of other languages do not say it: torch.jit raises "file write failed", safetensors an error of its own.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def require_writable(folder: Path, advice: str = "Free some space or choose a folder you may write to.") -> None:
    """Refuse a folder that could not be made or written, before the work whose result would be lost.

    Args:
        folder: it need not exist; nothing is left in it.
        advice: what to do, as the end of the message.

    Raises:
        FileWriteError: it, or the folder in which it would have to be made, is no folder or cannot be written.
    """
    existing = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    try:
        descriptor, probe = tempfile.mkstemp(prefix=".toolkit-", dir=existing)
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        raise FileWriteError(
            f"cannot write into {printable(folder)}: "
            + (f"{printable(existing)} is no folder" if not existing.is_dir() else str(error.strerror or error))
            + f". {advice}"
        ) from error


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[bool]:
    """Yield whether no other process is in this block with the same folder or file, which exists.

    One that is there for a moment only (see ``is_written``) is waited for. Where the system has no such locks, on
    Windows and some network file systems, nobody else is known of.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield True
        return
    try:
        alone = False
        for attempt in range(LOCK_ATTEMPTS):
            if attempt:
                time.sleep(0.01)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:
                pass
            alone = True
            break
        yield alone
    finally:
        os.close(descriptor)


def is_written(folder: Path) -> bool:
    """Tell whether a process, this one too, is in a block of ``only_writer`` with this folder or file."""
    with only_writer(folder) as alone:
        return not alone


def write_bytes(target: Path, content: bytes) -> None:
    """Replace ``target`` by ``content`` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Replace ``target`` by ``content`` (UTF-8, newlines as given) atomically."""
    write_bytes(target, content.encode())


def sync_files(folder: Path) -> None:
    """Wait until what was written into a folder is on the disk, in one go: an ``fsync`` for each file takes minutes."""
    if hasattr(os, "sync"):
        _sync_file_system(folder)
        return
    for path in folder.rglob("*"):  # Windows
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _sync_file_system(folder: Path) -> None:
    """Sync the file system that holds a folder where the C library can; all of them where not."""
    import ctypes  # only an archive that is unpacked needs it

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        synced = getattr(ctypes.CDLL(None), "syncfs", None)
        if synced is None or synced(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, reading it in pieces."""
    with open_regular(path) as file:
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
