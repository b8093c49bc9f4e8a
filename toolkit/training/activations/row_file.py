"""One file of a cache: bytes with a checksum for every 4 MiB, read from any place by several threads."""

from __future__ import annotations

import io
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

CHUNK_BYTES = 4 << 20
"""Bytes under one checksum; the last chunk of a file may be shorter. Part of the format."""

_POSITIONED = hasattr(os, "preadv")


class Checksums:
    """CRC-32 (as in zlib) of each chunk of a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._complete: list[int] = []
        self._current = 0
        self._bytes = 0

    def add(self, piece: memoryview) -> None:
        """Go on with ``piece``, whose items are bytes."""
        while len(piece):
            part = piece[: CHUNK_BYTES - self._bytes]
            self._current = zlib.crc32(part, self._current)
            self._bytes += len(part)
            if self._bytes == CHUNK_BYTES:
                self._complete.append(self._current)
                self._current = self._bytes = 0
            piece = piece[len(part) :]

    def all(self) -> tuple[int, ...]:
        """Return the checksums of all chunks, the unfinished one last."""
        return (*self._complete, self._current) if self._bytes else tuple(self._complete)


class RowFile:
    """A file that is open for reading.

    Not a memory map: where ``read`` reports the end of a file that was cut short, touching its map kills the process
    (SIGBUS); and the pages of a map count as memory of the process, so that a large cache looks like a leak and meets
    the limit of a container.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = io.FileIO(path)
        self._lock = threading.Lock()

    def fill(self, target: memoryview, offset: int) -> int:
        """Read from ``offset`` until ``target`` is full or the file ends; return how many bytes were read.

        Safe in several threads.
        """
        filled = 0
        while filled < len(target):
            count = self._read(target[filled:], offset + filled)
            if count == 0:
                break
            filled += count
        return filled

    def _read(self, target: memoryview, offset: int) -> int:
        if _POSITIONED:
            return os.preadv(self._file.fileno(), [target], offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.readinto(target) or 0

    def problem(self, size: int, checksums: Sequence[int], on_progress: Callable[[int], None]) -> str | None:
        """Read all of the file and compare. Reading and computing leave the interpreter to other threads.

        Args:
            size: bytes that it must have.
            checksums: of its chunks.
            on_progress: told after each chunk how many bytes it had.

        Returns:
            What is wrong, beginning with the path; None if nothing is.

        Raises:
            OSError: it cannot be read.
        """
        actual = os.fstat(self._file.fileno()).st_size
        if actual != size:
            return f"{self.path} has {actual} bytes instead of {size}"
        offsets = range(0, size, CHUNK_BYTES)
        if len(offsets) != len(checksums):
            return f"{self.path} has {len(checksums)} checksums in its index instead of {len(offsets)}"
        buffer = memoryview(bytearray(min(CHUNK_BYTES, size)))
        for offset, checksum in zip(offsets, checksums, strict=True):
            chunk = buffer[: size - offset]
            if self.fill(chunk, offset) < len(chunk) or zlib.crc32(chunk) != checksum:
                return f"{self.path} is not what was written (a wrong checksum from byte {offset} on)"
            on_progress(len(chunk))
        return None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
