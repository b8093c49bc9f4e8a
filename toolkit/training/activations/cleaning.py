"""Removing caches: those that a person wants to be rid of, damaged ones, and what killed processes left.

No numpy here.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

from toolkit.errors import FileWriteError
from toolkit.training.activations.catalogue import entries, find, folders, size_on_disk

ABANDONED_SECONDS = 24 * 3600.0
_PART = re.compile(r"[0-9a-f]{64}\.([0-9]+)-[0-9a-f]+\.part")


def unfinished_bytes(root: Path) -> int:
    """Return what the caches take that are being written, or were when their process was killed."""
    return sum(size_on_disk(folder) for folder in folders(root) if _PART.fullmatch(folder.name))


def clear(root: Path, digest_prefix: str | None) -> int:
    """Remove one cache, or all of them and what killed processes left.

    A process that reads one keeps what it has open (not on Windows).

    Args:
        root: where the caches are.
        digest_prefix: the first digits of one; None for all.

    Returns:
        Bytes freed.

    Raises:
        ToolkitError: the digits fit no cache or several.
        FileWriteError: a folder cannot be removed.
    """
    chosen = entries(root) if digest_prefix is None else [find(root, digest_prefix)]
    freed = discard_abandoned(root) if digest_prefix is None else 0
    for entry in chosen:
        remove(root / entry.digest)
        freed += entry.bytes
    return freed


def discard_abandoned(root: Path) -> int:
    """Remove what processes were writing when they were killed.

    A folder is abandoned if the process in its name is gone, or if nothing was written to it for a day: in containers
    every process has the same few numbers, so that the number of a killed one is soon in use again.

    Returns:
        Bytes freed.
    """
    freed = 0
    for folder in folders(root):
        part = _PART.fullmatch(folder.name)
        if part and (not _is_running(int(part[1])) or _idle_seconds(folder) > ABANDONED_SECONDS):
            size = size_on_disk(folder)
            shutil.rmtree(folder, ignore_errors=True)
            freed += size - size_on_disk(folder)
    return freed


def part_folder(folder: Path) -> Path:
    """Return a new name beside a cache's folder, under which it is written or removed."""
    return folder.with_name(f"{folder.name}.{os.getpid()}-{os.urandom(4).hex()}.part")


def remove(folder: Path) -> None:
    """Remove a cache; one that is gone already is no error.

    A removal that is killed leaves no half cache under the old name.

    Raises:
        FileWriteError: it cannot be removed.
    """
    doomed = part_folder(folder)
    try:
        folder.rename(doomed)
        shutil.rmtree(doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        left = doomed if os.path.lexists(doomed) else folder
        raise FileWriteError(f"cannot remove {left}: {error.strerror or error}. Remove it by hand.") from error


def _idle_seconds(folder: Path) -> float:
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:  # a file was renamed meanwhile: somebody is at work
        return 0.0


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":
        # Signal 0 is Ctrl-C there (https://docs.python.org/3/library/os.html#os.kill): only the time without a write
        # tells.
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True
