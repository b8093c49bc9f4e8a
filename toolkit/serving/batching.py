"""The images of concurrent requests on their way through one engine: decoded in threads, computed in others.

There is no timer that requests wait for. A call takes what is there when an engine becomes free, so that batches grow
with the load. Where fewer threads call the engine than there are cores, others decode, and images that are being
decoded at this moment are waited for, shortly. Elsewhere each thread decodes what it computes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.errors import first_line
from toolkit.serving.interface import Outputs
from toolkit.serving.refusals import ModelFailed, Refusal
from toolkit.serving.strategy import Setting

logger = logging.getLogger(__name__)

LONGEST_DECODING_SECONDS = 0.05
"""For the images of one call, by the thread that will compute them: those that come first wait for the others."""

File: TypeAlias = bytes | memoryview
Run: TypeAlias = Callable[[npt.NDArray[np.uint8]], Outputs]
"""Uint8 ``[n, H, W, 3]`` to the outputs; may raise anything."""


@dataclass(frozen=True)
class Stages:
    """What is done with images. Called in threads, several at a time."""

    prepare: Callable[[File], npt.NDArray[np.uint8]]
    """An image file to uint8 ``[H, W, 3]``; raises a ``Refusal`` where it cannot."""
    run: Run
    run_alone: Run
    """For what is the only thing to do: with more threads, perhaps."""
    computed: Callable[[int, float], None]
    """Told of each call of the engine: how many images, and in how many seconds."""
    finished: Callable[[Sequence[Item]], None]
    """Told of items that are done, of all of a call at once."""


class Item:
    """What shares a call of the engine or not, as a whole: the pixels of a request, or one image file.

    Attributes:
        images: how many it holds.
        outcome: the outputs, float32 ``[images, C]`` each, or why there are none; None while that is not known.
        is_wanted: False once nobody waits for it: it is neither decoded nor computed then.
        queue_seconds: how long it waited for threads.
        decode_seconds: how long its file was decoded.
        compute_seconds: how long the call of the engine took.
    """

    __slots__ = (
        "_arrived",
        "_file",
        "_pixels",
        "compute_seconds",
        "decode_seconds",
        "images",
        "is_wanted",
        "outcome",
        "queue_seconds",
    )

    def __init__(self, given: npt.NDArray[np.uint8] | File) -> None:
        self._file: File | None = None
        self._pixels: npt.NDArray[np.uint8] | None = None
        if isinstance(given, np.ndarray):
            self._pixels, self.images = given, len(given)
        else:
            self._file, self.images = given, 1
        self.outcome: Outputs | Refusal | None = None
        self.is_wanted = True
        self.queue_seconds = self.decode_seconds = self.compute_seconds = 0.0
        self._arrived = time.perf_counter()

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """The pixels, which are there: uint8 ``[images, H, W, 3]``."""
        assert self._pixels is not None
        return self._pixels

    @property
    def is_prepared(self) -> bool:
        """Whether there are pixels."""
        return self._pixels is not None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do of it."""
        return self.outcome is not None or not self.is_wanted

    def prepare(self, prepare: Callable[[File], npt.NDArray[np.uint8]]) -> bool:
        """Decode it, unless that was done; say whether it can be computed now."""
        if not self.is_wanted:
            return False
        if self._pixels is not None:
            return True
        if self._file is None:
            return False
        begun = time.perf_counter()
        self.queue_seconds += begun - self._arrived
        try:
            self._pixels = prepare(self._file)[None]
        except Refusal as refusal:
            self.fail(refusal)
        except Exception as error:
            logger.exception("an image could not be prepared")
            self.fail(ModelFailed(f"the image could not be prepared: {first_line(error)}."))
        self._file = None  # it may be large
        self._arrived = time.perf_counter()
        self.decode_seconds = self._arrived - begun
        return self._pixels is not None

    @property
    def waits_since(self) -> float:
        """When it could first have been computed, in seconds of ``time.perf_counter``."""
        return self._arrived

    def finish(self, outputs: Outputs, begun: float, seconds: float) -> None:
        """Hand over what was computed of it."""
        self.queue_seconds += begun - self._arrived
        self.compute_seconds = seconds
        self.outcome = outputs

    def fail(self, refusal: Refusal) -> None:
        """Say why there is nothing, unless there is something."""
        if self.outcome is None:
            self.outcome = refusal


class Batcher:
    """Threads that decode and compute what is submitted, until it is closed."""

    def __init__(self, stages: Stages, setting: Setting, decoders: int, name: str) -> None:
        """Start the threads.

        Args:
            stages: what is done.
            setting: how many images a call takes, and how many calls there are at the same time.
            decoders: threads that decode, where fewer call the engine.
            name: what the names of the threads end with.
        """
        self._stages = stages
        self._way = setting.way
        self._wait_seconds = setting.wait_seconds
        self._changed = threading.Condition()
        self._waiting: deque[Item] = deque()
        self._images = 0
        """Images of those that wait."""
        self._coming = 0
        """Images that are being decoded, or wait for that."""
        self._running = 0
        """Calls that are under way."""
        self._ending = False
        """Nothing more is taken."""
        self._closed = False
        """Nor does any more come from those who decode."""
        # Where enough threads call the engine, each decodes what it computes: nothing is handed over for each image.
        self._decoders: ThreadPoolExecutor | None = None
        if self._way.calls < decoders:
            self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix=f"decode {name}")
        self._threads = [
            threading.Thread(target=self._work, name=f"engine {name} {number}", daemon=True)
            for number in range(self._way.calls)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def batch_size(self) -> int:
        """The largest item that it takes, in images."""
        return self._way.batch_size

    def submit(self, items: Sequence[Item]) -> bool:
        """Have something computed: ``Stages.finished`` tells of it. Return False where it is too late for that."""
        with self._changed:
            if self._ending:
                return False
            for item in items:
                if self._decoders is not None and not item.is_prepared:
                    self._coming += 1
                    self._decoders.submit(self._decode, item)
                else:
                    self._put(item)
        return True

    def close(self) -> None:
        """Compute what was submitted, end the threads and wait for that; a second time does nothing."""
        with self._changed:
            self._ending = True
        if self._decoders is not None:
            self._decoders.shutdown()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _put(self, item: Item) -> None:
        self._waiting.append(item)
        self._images += item.images
        self._changed.notify()

    def _decode(self, item: Item) -> None:
        there = item.prepare(self._stages.prepare)
        if not there:
            self._stages.finished([item])
        with self._changed:
            self._coming -= 1
            if there:
                self._put(item)
            elif not self._coming:
                self._changed.notify_all()  # nobody need wait for others any longer

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            items, alone = taken
            try:
                self._compute(self._prepared(items), self._stages.run_alone if alone else self._stages.run)
            except Exception:  # ours: the thread must live on, and nobody may wait for ever
                logger.exception("a batch could not be computed")
                for item in items:
                    item.fail(ModelFailed("the model could not be run: the server's log says why."))
            finally:
                with self._changed:
                    self._running -= 1
            self._stages.finished([item for item in items if item.is_done])
            del items, taken  # while it waits for the next ones

    def _take(self) -> tuple[list[Item], bool] | None:
        """Wait for the items of one call, and say whether there is nothing else to do; None once all is done."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._closed:
                        return None
                    self._changed.wait()
                self._wait_for_others()
                # The other threads that are free take their share too.
                share = -(-self._images // max(1, self._way.calls - self._running))
                items = self._next(min(share, self._way.batch_size))
                if items:
                    alone = not (self._running or self._waiting or self._coming)
                    self._running += 1
                    if self._waiting:
                        self._changed.notify()  # another thread, whose turn this one may have taken
                    return items, alone

    def _wait_for_others(self) -> None:
        while self._waiting and self._coming and self._images < self._way.batch_size and not self._closed:
            left = self._waiting[0].waits_since + self._wait_seconds - time.perf_counter()
            if left <= 0:
                return
            self._changed.wait(left)

    def _next(self, most: int) -> list[Item]:
        items: list[Item] = []
        images = 0
        while self._waiting and (not items or images + self._waiting[0].images <= most):
            item = self._waiting.popleft()
            self._images -= item.images
            if item.is_wanted:
                items.append(item)
                images += item.images
        return items

    def _prepared(self, items: list[Item]) -> list[Item]:
        """Return the items that have pixels now; those that would take too long to decode wait for another call."""
        ready: list[Item] = []
        until = time.perf_counter() + LONGEST_DECODING_SECONDS
        for number, item in enumerate(items):
            if ready and time.perf_counter() >= until:
                self._put_back(items[number:])
                break
            if item.prepare(self._stages.prepare):
                ready.append(item)
        return ready

    def _put_back(self, items: list[Item]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(items))
            self._images += sum(item.images for item in items)
            self._changed.notify()

    def _compute(self, ready: list[Item], run: Run) -> None:
        if not ready:
            return
        begun = time.perf_counter()
        try:
            outputs = run(ready[0].pixels if len(ready) == 1 else np.concatenate([item.pixels for item in ready]))
        except Exception as error:  # an engine may raise anything
            self._failed(ready, run, error)
            return
        seconds = time.perf_counter() - begun
        self._stages.computed(sum(item.images for item in ready), seconds)
        at = 0
        for item in ready:
            rows = slice(at, at + item.images)
            item.finish({name: values[rows] for name, values in outputs.items()}, begun, seconds)
            at += item.images

    def _failed(self, items: list[Item], run: Run, error: Exception) -> None:
        """Find out of several whose fault it was; the others get their result."""
        if len(items) == 1:
            logger.error("the model could not be run: %s", first_line(error))
            items[0].fail(ModelFailed(f"the model could not be run: {first_line(error)}"))
            return
        for item in items:
            self._compute([item], run)
