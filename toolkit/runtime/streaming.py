"""Batches of images, prepared and computed in order: the next are decoded while the engine works, in bounded memory.

Whoever iterates reads the sources, and calls the engine. Threads decode what was read ahead, and where there are
parallel streams they call the engine too. Nothing happens while nobody asks for the next batch but what was begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.errors import ImageError
from toolkit.runtime.processes import ProcessThreads, Work

Prepared: TypeAlias = npt.NDArray[np.uint8] | ImageError
"""An image of the model's size, or why there is none."""
Outputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
"""What the engine returns, by name, float32 ``[n, C]``."""

PIECES = 4
"""Into how many pieces for each thread the images of a batch are divided: handing one over takes as long as decoding a
tenth of a small image, and of few large pieces the last ones leave threads idle."""


@dataclass(frozen=True)
class Stages:
    """What is done with images, and how many at once."""

    prepare: Callable[[Any], Prepared]
    """A source to the image of it."""
    run: Callable[[npt.NDArray[np.uint8]], Outputs]
    """Uint8 ``[n, H, W, 3]`` to the outputs."""
    threads: ProcessThreads
    batch_size: int
    """Images per call of ``run``."""
    streams: int
    """Calls of ``run`` at the same time."""

    @property
    def batches(self) -> int:
        """How many batches are in memory at most.

        Those that the engine has; as many that are decoded meanwhile, and one more, so that threads have something to
        do while the last image of a batch is decoded; of small batches so many that each thread has two images.
        """
        return self.streams + max(self.streams + 1, -(-2 * self.threads.threads // self.batch_size))


@dataclass(frozen=True)
class Computed:
    """A batch, and what was made of it."""

    sources: list[Any]
    errors: list[ImageError | None]
    """Why a source is no image; None where it is one."""
    outputs: Outputs
    """A row for each source that is an image; empty where none is."""


def computed(sources: Iterator[Any], stages: Stages) -> Generator[Computed, None, None]:
    """Prepare and compute images batch by batch.

    What the sources raise is raised when all that came before it was yielded.
    """
    reader = _Reader(sources, stages.batch_size)
    waiting: deque[_Batch] = deque()
    try:
        while True:
            while len(waiting) < stages.batches and (chunk := reader.read()):
                # Waking a thread takes longer than decoding a small image, so one that is alone is left to this one.
                is_alone = not waiting and len(chunk) == 1
                waiting.append(_Batch(chunk, stages))
                if not is_alone:
                    waiting[0].decode()
                    waiting[-1].decode()
            if not waiting:
                break
            if stages.streams > 1 and len(waiting) > 1:
                for batch in islice(waiting, stages.streams):
                    batch.compute()
            yield waiting[0].result()
            waiting.popleft()
    finally:
        for batch in waiting:
            batch.drop()
    reader.raise_what_was_raised()


class _Reader:
    """Reads sources, and keeps what they raise."""

    def __init__(self, sources: Iterator[Any], size: int) -> None:
        self._sources = sources
        self._size = size
        self._ended = False
        self._error: Exception | None = None

    def read(self) -> list[Any]:
        """Return the next sources, fewer at the end."""
        chunk: list[Any] = []
        if self._ended:
            return chunk
        try:
            for source in islice(self._sources, self._size):
                chunk.append(source)  # what came before an error is kept
        except Exception as error:  # somebody's generator raises what it likes
            self._error = error
        self._ended = len(chunk) < self._size
        return chunk

    def raise_what_was_raised(self) -> None:
        """Raise the error of the sources, if there was one."""
        if self._error is not None:
            raise self._error


class _Batch:
    """Some sources on their way to outputs."""

    def __init__(self, sources: list[Any], stages: Stages) -> None:
        self._sources = sources
        self._stages = stages
        self._pieces: list[Work[list[Prepared]]] = []
        self._computed: Work[Computed] | None = None

    def decode(self) -> None:
        """Have threads decode it."""
        if self._pieces:
            return
        threads = self._stages.threads
        size = max(1, len(self._sources) // (PIECES * max(1, threads.threads)))
        parts = [self._sources[at : at + size] for at in range(0, len(self._sources), size)]
        self._pieces = [threads.begin(partial(_prepare, self._stages.prepare, part)) for part in parts]

    def compute(self) -> None:
        """Have a thread compute it."""
        if self._computed is None:
            self._computed = self._stages.threads.begin(self._compute)

    def result(self) -> Computed:
        """Return what was made of it, once it was. To be called once: nothing is kept."""
        # The work knows this batch: a batch that knew the work for ever would not be freed with its last reference.
        work, self._computed = self._computed, None
        return self._compute() if work is None else work.result()

    def drop(self) -> None:
        """Leave undone what nobody has begun, and keep nothing."""
        work, self._computed = self._computed, None
        if work is not None:
            work.drop()
        for piece in self._pieces:
            piece.drop()
        self._pieces = []

    def _compute(self) -> Computed:
        pieces, self._pieces = self._pieces, []  # whose results are not kept
        for piece in reversed(pieces):  # the threads begin at the other end
            piece.take_over()
        prepared = [item for piece in pieces for item in piece.result()]
        if not pieces:
            prepared = _prepare(self._stages.prepare, self._sources)
        errors = [item if isinstance(item, ImageError) else None for item in prepared]
        images = [item for item in prepared if not isinstance(item, ImageError)]
        return Computed(self._sources, errors, self._stages.run(np.stack(images)) if images else {})


def _prepare(prepare: Callable[[Any], Prepared], sources: list[Any]) -> list[Prepared]:
    return [prepare(source) for source in sources]
