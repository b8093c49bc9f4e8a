"""The small pictures that stand in a page: JPEG files below the run's folder, and nothing else."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from toolkit.files import open_regular

LARGEST = 64 * 1024
"""Bytes of one picture; a larger one is no thumbnail."""
LARGEST_SUM = 1_400_000
"""Bytes of all pictures of a page, before base64 makes a third more of them."""
_JPEG = b"\xff\xd8\xff"


class Thumbnails:
    """Reads the pictures of one page, until it would become too large."""

    def __init__(self, folder: Path | None) -> None:
        """Say below which folder they lie; None has none."""
        self._folder = folder
        self._known: dict[str, str | None] = {}
        self._bytes = 0
        self.left_out = 0
        """Pictures that there was no room for."""

    def uri(self, name: str | None) -> str | None:
        """Return a picture as a ``data:`` URI.

        Args:
            name: path below the folder, with forward slashes, as a record has it.

        Returns:
            None where there is no such picture: no name, a name that leads out of the folder or through a link, a file
            that is no JPEG or too large, or a page that is full.
        """
        if name is None or self._folder is None:
            return None
        if name not in self._known:
            content = read_thumbnail(self._folder, name)
            if content is not None and self._bytes + len(content) > LARGEST_SUM:
                self.left_out += 1
                content = None
            self._bytes += len(content or b"")
            self._known[name] = None if content is None else _data_uri(content)
        return self._known[name]


def read_thumbnail(folder: Path, name: str) -> bytes | None:
    """Return the content of a JPEG file below a folder; None for anything else, and for whatever a link leads to."""
    parts = name.split("/")
    if "\\" in name or ":" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        return None
    try:
        path = folder
        for part in parts[:-1]:
            path = path / part
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return None
        with open_regular(path / parts[-1], follow_links=False) as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError):
        return None
    return content if content.startswith(_JPEG) and len(content) <= LARGEST else None


def _data_uri(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
