"""Which images of a listing have the same content, before the listing is divided."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_PROBE_BYTES = 4096
_WORKERS = 4  # reading from disk overlaps


@dataclass(frozen=True, eq=False)
class Listed:
    """What is known of the contents of a listing.

    Attributes:
        first: int64 ``[n]``: for each image the index of the first one with the same content, its own if it is that.
        digests: SHA-256 of the contents that had to be hashed to know, by index.
    """

    first: npt.NDArray[np.int64]
    digests: Mapping[int, bytes]


def first_of_each(contents: Iterable[Hashable]) -> npt.NDArray[np.int64]:
    """Return for each content the index of the first that is equal to it, int64 ``[n]``."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(content, index) for index, content in enumerate(contents)], np.int64)


def identical_files(paths: Sequence[Path]) -> Listed:
    """Find files with the same content, whatever they are called; links are read as what they point at.

    A whole file is read only where another one has its size and the same bytes in its middle. What cannot be read is
    like no other: whoever scans the files says why.
    """
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="toolkit-identical") as executor:
        alike = _with_a_twin(range(len(paths)), executor.map(_size, paths))
        alike = _with_a_twin(alike, executor.map(lambda index: _probe(paths[index]), alike))
        digests = {
            index: digest
            for index, digest in zip(alike, executor.map(lambda index: _digest(paths[index]), alike), strict=True)
            if digest is not None
        }
    return Listed(first_of_each(digests.get(index, index) for index in range(len(paths))), digests)


def _with_a_twin(indices: Iterable[int], keys: Iterable[Hashable | None]) -> list[int]:
    """Return the indices whose key another one has too; None is no key."""
    members: dict[Hashable, list[int]] = {}
    for index, key in zip(indices, keys, strict=True):
        if key is not None:
            members.setdefault(key, []).append(index)
    return sorted(index for group in members.values() if len(group) > 1 for index in group)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _probe(path: Path) -> tuple[int, bytes] | None:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(0, (size - _PROBE_BYTES) // 2))
            return size, file.read(_PROBE_BYTES)
    except OSError:
        return None


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
