"""Activations of a frozen prefix, computed once and kept on disk.

Written row by row, checked when opened, read in any order.

Nothing is used that is not what was written: a cache whose process was killed never gets its name, and one that was cut
short or changed by as little as one bit afterwards is removed when it is opened. Which caches there are is the business
of ``toolkit.training.activations.catalogue``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from toolkit.errors import FileWriteError, TrainingError
from toolkit.files import read_regular
from toolkit.progress import Reporter, Silent
from toolkit.training.activations.catalogue import FORMAT_VERSION, INDEX_NAME, CacheIndex, CacheKey, bytes_needed
from toolkit.training.activations.cleaning import part_folder, remove
from toolkit.training.activations.row_file import CHUNK_BYTES, Checksums, RowFile

_STORED: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


class NotFiniteError(Exception):
    """A finite activation is too large for the type it should be kept in: keep this cache as float32.

    Attributes:
        tensor: name of the tensor that it is in.
    """

    def __init__(self, tensor: str) -> None:
        super().__init__(f"{tensor} has values beyond the range of float16")
        self.tensor = tensor


class _DamagedError(Exception):
    """A cache is not what was written; the message names the file and says what is wrong with it."""


class ActivationCache:
    """An open cache whose files are those that were written.

    Attributes:
        key: what it holds.
        folder: where it is.
    """

    def __init__(self, folder: Path, key: CacheKey) -> None:
        self.key = key
        self.folder = folder
        self._row_bytes = [key.row_bytes(tensor) for tensor in range(len(key.tensors))]
        with contextlib.ExitStack() as opened:
            self._files: list[RowFile] = []
            for tensor in range(len(key.tensors)):
                self._files.append(RowFile(folder / _file_name(tensor)))
                opened.callback(self._files[-1].close)
            opened.pop_all()

    def read(self, tensor: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Read rows of one tensor. Safe to call from several threads; rows that follow each other are read at once.

        Args:
            tensor: its place in ``key.tensors``.
            rows: int64 ``[n]``, in any order, also repeated.

        Returns:
            ``[n, *shape]`` in the stored type (float16 or float32), in the order of ``rows``.

        Raises:
            IndexError: there is no such row.
            TrainingError: the file was cut short after it was opened, or cannot be read.
        """
        if len(rows) and (rows.min() < 0 or rows.max() >= self.key.rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} were asked for, the cache has {self.key.rows}")
        content = np.empty((len(rows), *self.key.tensors[tensor][1]), _STORED[self.key.dtype])
        target = content.reshape(-1).view(np.uint8).data
        size = self._row_bytes[tensor]
        # Where a row does not follow the one before it, a new run begins.
        starts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, stop in itertools.pairwise(starts):
            if start < stop:
                self._read_run(self._files[tensor], target[start * size : stop * size], int(rows[start]) * size)
        return content

    def _read_run(self, file: RowFile, target: memoryview, offset: int) -> None:
        try:
            count = file.fill(target, offset)
        except OSError as error:
            raise TrainingError(f"{file.path} cannot be read ({error.strerror or error}). Run again.") from error
        if count < len(target):
            raise TrainingError(f"{file.path} was cut short while it was being used. Run again: it is computed anew.")

    def fits(self, dtype: str) -> bool:
        """Tell whether another type, ``float16`` or ``float32``, would hold all of it; reads it once."""
        for tensor, (name, _) in enumerate(self.key.tensors):
            step = max(1, CHUNK_BYTES // max(1, self._row_bytes[tensor]))
            for start in range(0, self.key.rows, step):
                rows = np.arange(start, min(start + step, self.key.rows), dtype=np.int64)
                try:
                    _converted(self.read(tensor, rows), _STORED[dtype], name)
                except NotFiniteError:
                    return False
        return True

    def problem(self, index: CacheIndex, on_progress: Callable[[int], None]) -> str | None:
        """Read every byte once; return which file is not what was written, or None."""
        problems = (
            file.problem(row_bytes * self.key.rows, checksums, on_progress)
            for file, row_bytes, checksums in zip(self._files, self._row_bytes, index.crc32, strict=True)
        )
        return next((problem for problem in problems if problem), None)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_cache(root: Path, key: CacheKey, reporter: Reporter | None = None) -> ActivationCache | None:
    """Open the cache of a key, after reading and checking all of it.

    Args:
        root: where the caches are.
        key: what it must hold.
        reporter: shows a bar in bytes, and one line that names the file and what is wrong with it.

    Returns:
        The cache, to be closed by the caller; None if there is none, or there was a damaged one, which is removed.

    Raises:
        FileWriteError: a damaged one cannot be removed.
    """
    folder = root / key.digest()
    if not os.path.lexists(folder):
        return None
    reporter = reporter or Silent()
    try:
        cache = _checked(folder, key, reporter)
    except _DamagedError as damaged:
        reporter.line(f"{damaged}: this cache is removed and computed again")
        remove(folder)
        return None
    # When it was last used. In a folder that others share and may not write, the date stays.
    with contextlib.suppress(OSError):
        os.utime(folder / INDEX_NAME)
    return cache


def _checked(folder: Path, key: CacheKey, reporter: Reporter) -> ActivationCache:
    path = folder / INDEX_NAME
    try:
        index = CacheIndex.from_json(read_regular(path))
        if index.key != key:
            raise _DamagedError(f"{path} describes other activations")
        if index.format != FORMAT_VERSION or len(index.crc32) != len(key.tensors):
            raise _DamagedError(f"{path} is not in the format of this version")
        with contextlib.ExitStack() as on_failure:
            cache = ActivationCache(folder, key)
            on_failure.callback(cache.close)
            with reporter.bar("checking kept activations", bytes_needed(key), unit="B") as bar:
                problem = cache.problem(index, bar.advance)
            if problem is not None:
                raise _DamagedError(problem)
            on_failure.pop_all()
    except OSError as error:
        raise _DamagedError(f"{error.filename or folder} cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        raise _DamagedError(f"{path} is not an index of activations ({error.errors()[0]['msg']})") from error
    return cache


class CacheWriter:
    """Writes a cache, row by row, in a ``with`` block; nothing is left of it without ``seal`` or ``hand_over``.

    Args:
        root: where the caches are; made if missing.
        key: what will be in it.

    Raises:
        FileWriteError: the folder cannot be made or written, or the disk is full; from ``append``, ``seal`` and
            ``hand_over`` too.
    """

    def __init__(self, root: Path, key: CacheKey) -> None:
        self._root = root
        self._key = key
        self._target = root / key.digest()
        self._folder = part_folder(self._target)
        self._handed_over = False
        self._files: list[BinaryIO] = []
        self._checksums = [Checksums() for _ in key.tensors]
        self._rows = 0

    def __enter__(self) -> Self:
        try:
            with self._writing():
                self._folder.mkdir(parents=True)
                for tensor in range(len(self._key.tensors)):
                    self._files.append((self._folder / _file_name(tensor)).open("xb"))
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._handed_over:
            self._discard()

    def append(self, tensors: Sequence[npt.NDArray[Any]]) -> None:
        """Add rows to every tensor, after those that are there.

        Args:
            tensors: float32 ``[n, *shape]`` each, in the order of the key; stored in the key's type.

        Raises:
            NotFiniteError: a finite value is too large for the key's type; nothing of this call was written.
            ValueError: shapes, types or numbers of rows are not those of the key.
        """
        rows = self._rows_of(tensors)
        dtype = _STORED[self._key.dtype]
        contents = [_converted(array, dtype, name) for array, (name, _) in zip(tensors, self._key.tensors, strict=True)]
        with self._writing():
            for file, checksums, content in zip(self._files, self._checksums, contents, strict=True):
                piece = content.reshape(-1).view(np.uint8).data
                checksums.add(piece)
                file.write(piece)
        self._rows += rows

    def _rows_of(self, tensors: Sequence[npt.NDArray[Any]]) -> int:
        shapes = [array.shape[1:] for array in tensors]
        counts = {len(array) for array in tensors}
        if (
            shapes != [shape for _, shape in self._key.tensors]
            or len(counts) != 1
            or any(array.dtype != np.float32 for array in tensors)
        ):
            given = ", ".join(f"{array.dtype} {array.shape}" for array in tensors)
            raise ValueError(f"rows of float32 {[shape for _, shape in self._key.tensors]} are expected, not {given}")
        rows = counts.pop()
        if self._rows + rows > self._key.rows:
            raise ValueError(f"{self._rows + rows} rows were given, the key says {self._key.rows}")
        return rows

    def seal(self) -> ActivationCache:
        """Finish the cache: flush it to disk and give it its name.

        Returns:
            The cache, open for reading, to be closed by the caller. Where another process finished the same one
            meanwhile it is that one.

        Raises:
            ValueError: rows are missing.
        """
        self._require_all_rows()
        with self._writing():
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
                file.close()
            index = CacheIndex(
                format=FORMAT_VERSION,
                key=self._key,
                created=datetime.now(UTC).replace(microsecond=0),
                crc32=tuple(checksums.all() for checksums in self._checksums),
            )
            index.save(self._folder / INDEX_NAME)
            return self._move_into_place()

    def hand_over(self) -> ActivationCache:
        """Finish the cache for this process alone: it gets no name, by which others would find it.

        Returns:
            The cache, open for reading. Whoever takes it closes it and removes its folder; if the process is killed,
            that is done as for a cache that was being written.

        Raises:
            ValueError: rows are missing.
        """
        self._require_all_rows()
        with self._writing():
            for file in self._files:
                file.close()
            cache = ActivationCache(self._folder, self._key)
        self._handed_over = True
        return cache

    def _require_all_rows(self) -> None:
        if self._rows != self._key.rows:
            raise ValueError(f"{self._rows} of {self._key.rows} rows were written")

    def _move_into_place(self) -> ActivationCache:
        try:
            self._folder.rename(self._target)
        except OSError:
            if not os.path.lexists(self._target):
                raise
            other = open_cache(self._root, self._key)
            if other is not None:
                self._discard()
                return other
            self._folder.rename(self._target)
        return ActivationCache(self._target, self._key)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = (
                "Free some space ('toolkit cache --clear' removes all caches) or choose another folder with "
                "TOOLKIT_CACHE."
            )
            raise FileWriteError(
                f"cannot write activations to {self._root}: {error.strerror or error}. {advice}"
            ) from error

    def _discard(self) -> None:
        for file in self._files:
            with contextlib.suppress(
                OSError
            ):  # a full disk refuses what is still buffered; the file is closed all the same
                file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _file_name(tensor: int) -> str:
    return f"{tensor}.bin"


def _converted(array: npt.NDArray[Any], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype)
    if not np.isfinite(stored).all() and bool((np.isinf(stored) & np.isfinite(array)).any()):
        raise NotFiniteError(name)
    return stored
