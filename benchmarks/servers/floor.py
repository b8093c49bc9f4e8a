"""What the same files cost without a server: Pillow as the bundle says, and a bare session of onnxruntime."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.harness.bare import open_bare

Rows: TypeAlias = list[tuple[int, npt.NDArray[np.float32]]]
"""Which picture, and its probabilities."""
Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """How the work is divided.

    Attributes:
        batch: images of one call of the engine.
        streams: calls at the same time, each with its share of the threads. With one, threads decode two batches ahead
            of it; with several, each decodes its own.
        ahead: whether anything is decoded ahead; one connection has one picture at a time.
    """

    batch: int
    streams: int
    ahead: bool = True

    def __str__(self) -> str:
        if not self.ahead:
            return "one picture after the other"
        return f"batches of {self.batch}, {self.streams} at a time"


@dataclass(frozen=True)
class Done:
    """What came of it: the rows, the seconds of the clock and those of the processors."""

    rows: Rows
    seconds: float
    processor_seconds: float


def shapes(connections: int, threads: int) -> list[Shape]:
    """Return the divisions that so many connections allow: no more pictures at a time than there are requests."""
    if connections == 1:
        return [Shape(1, 1, ahead=False)]
    wanted = [Shape(1, threads), Shape(8, 1), Shape(8, threads), Shape(32, 1), Shape(32, threads)]
    fitting = [shape for shape in wanted if shape.batch * shape.streams <= connections]
    return list(dict.fromkeys(fitting)) or [Shape(1, 1)]


def decoded(file: bytes, size: int) -> Pixels:
    """Decode a picture at the smallest scale that leaves twice the size, and bring it to the size of the network."""
    with Image.open(io.BytesIO(file)) as image:
        drafted = image.draft(None, (2 * size, 2 * size))
        box = None if drafted is None else drafted[1]
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box))


class Floor:
    """Sessions of one file, and the pictures."""

    def __init__(self, model: Path, size: int, threads: int) -> None:
        self._wide = open_bare(model, threads)
        self._narrow = [open_bare(model, 1) for _ in range(threads)]
        self._size = size
        self._threads = threads

    def run(self, files: Sequence[bytes], shape: Shape, seconds: float) -> Done:
        """Classify files in turn for some time."""
        used, began = time.process_time(), time.perf_counter()
        until = began + seconds
        turn = count()

        def take() -> list[int]:
            return [next(turn) % len(files) for _ in range(shape.batch)] if time.perf_counter() < until else []

        if shape.streams > 1:
            rows = self._streams(files, shape, take)
        elif shape.ahead:
            rows = self._pipeline(files, take)
        else:
            rows = _computed(self._wide, take, lambda index: decoded(files[index], self._size))
        return Done(rows, time.perf_counter() - began, time.process_time() - used)

    def _streams(self, files: Sequence[bytes], shape: Shape, take: Callable[[], list[int]]) -> Rows:
        def work(session: Any) -> Rows:
            return _computed(session, take, lambda index: decoded(files[index], self._size))

        with ThreadPoolExecutor(shape.streams) as pool:
            return [row for rows in pool.map(work, self._narrow[: shape.streams]) for row in rows]

    def _pipeline(self, files: Sequence[bytes], take: Callable[[], list[int]]) -> Rows:
        rows: Rows = []
        ahead: deque[tuple[list[int], list[Future[Pixels]]]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:

            def read() -> None:
                if indices := take():
                    ahead.append((indices, [pool.submit(decoded, files[index], self._size) for index in indices]))

            for _ in range(3):
                read()
            while ahead:
                indices, pictures = ahead.popleft()
                images = np.stack([picture.result() for picture in pictures])
                read()
                rows += zip(indices, _probabilities(self._wide, images), strict=True)
        return rows


def _computed(session: Any, take: Callable[[], list[int]], read: Callable[[int], Pixels]) -> Rows:
    rows: Rows = []
    while indices := take():
        images = np.stack([read(index) for index in indices])
        rows += zip(indices, _probabilities(session, images), strict=True)
    return rows


def _probabilities(session: Any, images: Pixels) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = session.run(["probabilities"], {"images": images})[0]
    return found
