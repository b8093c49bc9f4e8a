"""Whether concurrent requests are computed together or one by one: what a short measurement finds better here.

Batching is no gain by itself: a network of many small convolutions fills a core with one image, and then two images on
two cores are done sooner than a batch on both. Which it is depends on the network, its size and the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Run: TypeAlias = Callable[[npt.NDArray[np.uint8]], Any]
"""Computes uint8 ``[n, H, W, 3]``."""
Clock: TypeAlias = Callable[[], float]

BATCH_SIZES = (8, 32)
"""That are tried beside single images."""
LONGEST_CALL_SECONDS = 0.1
"""A call may take so long for a batch to be considered: whoever comes while it runs waits for its end."""
LONGEST_WAIT_SECONDS = 0.01
"""For images that are being decoded to share a call."""
WORTH_IT = 1.1
"""A larger batch, or more threads for a request that is alone, must be so many times as good to be taken."""
TRIAL_SECONDS = 0.12
"""How long each way is measured, in each of the rounds."""
ROUNDS = 2
FEW_THREADS = 4
"""Of one call, which are tried too where there are cores for several such calls."""


@dataclass(frozen=True, order=True)
class Way:
    """How images are computed. Ordered by how soon one that comes alone is begun."""

    batch_size: int
    """Images in one call at most; 1 for one by one."""
    calls: int
    """At the same time."""
    threads: int
    """Of one call."""

    def __str__(self) -> str:
        """Say it as the middle of a sentence."""
        threads = f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        each = f"with {threads}" if self.calls == 1 else f"with {threads} each, {self.calls} at the same time"
        return f"one by one, {each}" if self.batch_size == 1 else f"in batches of up to {self.batch_size}, {each}"


@dataclass(frozen=True)
class Measured:
    """What a way achieves here."""

    way: Way
    images_per_second: float
    call_seconds: float
    """Mean time of one call of ``batch_size`` images."""


@dataclass(frozen=True)
class Setting:
    """How the images of one model are computed."""

    way: Way
    images_per_second: float
    """That were measured; only a first guess of what requests will see."""
    wait_seconds: float
    """How long an image may wait for others that are being decoded; 0 where they share no call."""
    why: str
    """One sentence for the log."""


def ways(cores: int, threads: int | None = None, batch_size: int | None = None) -> list[Way]:
    """Return the ways that are worth a try.

    Args:
        cores: that may be used.
        threads: of one call, where somebody says.
        batch_size: images in one call, where somebody says.
    """
    sizes = (1, *BATCH_SIZES) if batch_size is None else (batch_size,)
    divisions = {(cores, 1), (1, cores)}
    if cores >= 2 * FEW_THREADS:
        divisions.add((cores // FEW_THREADS, FEW_THREADS))
    if threads is not None:
        divisions = {(max(1, cores // threads), threads)}
    return sorted(Way(size, calls, each) for size in sizes for calls, each in divisions)


def measure(way: Way, run: Run, image: npt.NDArray[np.uint8], clock: Clock = time.perf_counter) -> Measured:
    """Measure a way for a moment, after one call that warms up.

    Args:
        way: to be measured.
        run: computes with as many threads as the way has.
        image: uint8 ``[H, W, 3]``, repeated to the size of the batch.
        clock: seconds.
    """
    batch = np.repeat(image[None], way.batch_size, axis=0)
    run(batch)

    def work(until: float) -> int:
        calls = 1
        run(batch)
        while clock() < until:
            run(batch)
            calls += 1
        return calls

    with ThreadPoolExecutor(way.calls, thread_name_prefix="toolkit-measure") as pool:
        begun = clock()
        calls = sum(pool.map(work, [begun + TRIAL_SECONDS] * way.calls))
        seconds = max(clock() - begun, 1e-9)
    return Measured(way, calls * way.batch_size / seconds, seconds * way.calls / calls)


def measured(tried: Iterable[Way], run: Callable[[Way], Run], image: npt.NDArray[np.uint8]) -> list[Measured]:
    """Measure several ways in turns, and keep the better of the rounds: what disturbs one only makes it slower.

    Larger batches that would take longer than ``LONGEST_CALL_SECONDS`` a call are left out.

    Args:
        tried: at least one way.
        run: what computes in a way.
        image: see ``measure``.
    """
    best: dict[Way, Measured] = {}
    smallest_first = sorted(tried)
    for _ in range(ROUNDS):
        for way in smallest_first:
            if way.batch_size > smallest_first[0].batch_size and _takes_long(way, best.values()):
                continue
            found = measure(way, run(way), image)
            if way not in best or found.images_per_second > best[way].images_per_second:
                best[way] = found
    return list(best.values())


def choose(found: Sequence[Measured]) -> Setting:
    """Take the fastest way, or one with smaller batches or fewer threads that is nearly as fast.

    Threads of one call wait for each other, and more so where others want the cores too, which decode.

    Args:
        found: at least one way.
    """
    fastest = max(one.images_per_second for one in found)
    good = [one for one in found if one.images_per_second * WORTH_IT >= fastest]
    taken = min(good, key=lambda one: (one.way.batch_size, one.way.threads, -one.images_per_second))
    others = sorted((one for one in found if one is not taken), key=lambda one: -one.images_per_second)
    why = f"{taken.way} ({taken.images_per_second:.0f} img/s measured here"
    if others:
        why += "; " + "; ".join(f"{other.way}: {other.images_per_second:.0f}" for other in others)
    return Setting(taken.way, taken.images_per_second, wait_seconds(taken), f"{why})")


def wait_seconds(taken: Measured) -> float:
    """Return how long an image may wait for others: as long as its share of the call that they would have together."""
    if taken.way.batch_size == 1:
        return 0.0
    return min(LONGEST_WAIT_SECONDS, taken.call_seconds / 2)


def _takes_long(way: Way, known: Iterable[Measured]) -> bool:
    """Tell from smaller batches of the same division whether a call would take too long."""
    same = [one for one in known if (one.way.calls, one.way.threads) == (way.calls, way.threads)]
    smaller = [one for one in same if one.way.batch_size < way.batch_size]
    if not smaller:
        return False
    nearest = max(smaller, key=lambda one: one.way.batch_size)
    # A batch costs less than its images one by one; three quarters of it is a careful guess.
    expected = nearest.call_seconds * way.batch_size / nearest.way.batch_size * 0.75
    return expected > LONGEST_CALL_SECONDS
