"""Which bundles this user has exported on this machine: those whose files may carry code.

One empty file per manifest, named by its SHA-256, in a folder of the user's own. It is neither in the bundle nor in the
run, which a stranger can write. A bundle that was moved or copied stays known, one that was changed does not. Nothing
here is needed to use a bundle, so a folder that cannot be read or written makes nothing fail: its bundles are then
strangers'.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

import platformdirs

from toolkit.files import expanded

MOST_KNOWN = 10_000
"""Manifests that are remembered; the oldest are forgotten first."""
FOLDER = "bundles"


def state_folder() -> Path:
    """Return the folder for what this user's commands remember from one call to the next.

    ``$TOOLKIT_STATE``, or ``toolkit`` in the user's state folder as the platform has it (on Linux ``$XDG_STATE_HOME``
    or ``~/.local/state``). It need not exist. Where the user has no home the path is not absolute, and nothing is
    remembered.
    """
    chosen = os.environ.get("TOOLKIT_STATE")
    if chosen:
        return expanded(chosen)
    return platformdirs.user_state_path("toolkit", appauthor=False)


def is_known(manifest: bytes) -> bool:
    """Say whether this user has exported, on this machine, the bundle whose manifest has these bytes."""
    folder = state_folder() / FOLDER
    try:
        return folder.is_absolute() and _is_private(folder) and stat.S_ISREG((folder / _name(manifest)).lstat().st_mode)
    except OSError:
        return False


def remember(manifest: bytes) -> bool:
    """Note that this user has exported a bundle on this machine.

    Returns:
        Whether it could be noted. Where it could not, the bundle's artifacts that can carry code need a word more.
    """
    folder = state_folder() / FOLDER
    if not folder.is_absolute():
        return False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder):
            return False
        # An empty file is there or it is not, so two processes cannot harm each other, nor can a kill.
        (folder / _name(manifest)).touch()
        _forget_oldest(folder)
    except OSError:
        return False
    return True


def _name(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()


def _is_private(folder: Path) -> bool:
    """Say whether a folder is this user's and nobody else can write it: otherwise its files say nothing."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "getuid"):  # Windows: the folder is inside the user's profile
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _forget_oldest(folder: Path) -> None:
    with os.scandir(folder) as entries:
        known = list(entries)
    if len(known) <= MOST_KNOWN:
        return
    ages = []
    for entry in known:
        with contextlib.suppress(OSError):  # another process has forgotten it meanwhile
            ages.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path))
    for _, path in sorted(ages)[: len(known) - MOST_KNOWN]:
        with contextlib.suppress(OSError):
            os.unlink(path)
