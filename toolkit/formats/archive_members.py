"""Rewriting the archive that PyTorch saves a network in: what names the exporting machine does not ship."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from toolkit.files import atomic_path


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write an archive again, member by member, uncompressed as PyTorch reads it.

    Args:
        path: a ZIP archive that ``torch`` wrote; replaced as a whole.
        change: name and content of a member to its new content, or None for a member that is left out.
    """
    with atomic_path(path) as beside, zipfile.ZipFile(path) as old, zipfile.ZipFile(beside, "w") as new:
        for member in old.infolist():
            content = change(member.filename, old.read(member))
            if content is not None:
                new.writestr(zipfile.ZipInfo(member.filename), content)
