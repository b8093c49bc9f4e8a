from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from toolkit.errors import ImageError
from toolkit.runtime.processes import ProcessThreads
from toolkit.runtime.streaming import Computed, Prepared, Stages, computed


class Source:
    """A number that can be watched."""

    def __init__(self, value: int) -> None:
        self.value = value


def prepare(source: Any) -> Prepared:
    if source.value < 0:
        return ImageError(f"{source.value} is no image")
    return np.full((1, 1, 3), source.value, np.uint8)


def run(images: np.ndarray) -> dict[str, np.ndarray]:
    return {"logits": images[:, 0, 0, :1].astype(np.float32)}


@pytest.fixture
def threads() -> Iterator[ProcessThreads]:
    pool = ProcessThreads(2, "streaming")
    yield pool
    pool.end()


@pytest.fixture
def stages(threads: ProcessThreads) -> Stages:
    return Stages(prepare, run, threads, batch_size=4, streams=1)


def values(batch: Computed) -> list[float | None]:
    rows = iter(batch.outputs["logits"][:, 0].tolist() if batch.outputs else ())
    return [None if error else next(rows) for error in batch.errors]


def sources(*given: int) -> list[Source]:
    return [Source(value) for value in given]


def until(happened: Callable[[], bool]) -> bool:
    """Wait for something that another thread does."""
    end = time.monotonic() + 60
    while not happened() and time.monotonic() < end:
        time.sleep(0.001)
    return happened()


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 25])
def test_all_come_in_order(stages: Stages, streams: int, batch_size: int, count: int) -> None:
    given = sources(*range(count))
    batches = list(computed(iter(given), replace(stages, batch_size=batch_size, streams=streams)))
    assert [source for batch in batches for source in batch.sources] == given
    assert [value for batch in batches for value in values(batch)] == list(range(count))


@pytest.mark.parametrize("streams", [1, 3])
def test_an_image_that_is_none_fails_alone(stages: Stages, streams: int) -> None:
    batches = list(computed(iter(sources(1, -2, 3, 4, -5, -6, -7, -8, 9)), replace(stages, streams=streams)))
    assert [values(batch) for batch in batches] == [[1, None, 3, 4], [None] * 4, [9]]
    assert [str(error) for error in batches[1].errors] == [f"-{value} is no image" for value in (5, 6, 7, 8)]


def test_the_next_images_are_decoded_while_the_engine_works(stages: Stages) -> None:
    decoded: list[int] = []

    def noted(source: Any) -> Prepared:
        decoded.append(source.value)
        return prepare(source)

    def waits_for_the_next(images: np.ndarray) -> dict[str, np.ndarray]:
        assert until(lambda: len(decoded) >= min(12, int(images[0, 0, 0, 0]) + 8)), decoded
        return run(images)

    stages = replace(stages, prepare=noted, run=waits_for_the_next)
    assert [values(batch)[0] for batch in computed(iter(sources(*range(12))), stages)] == [0, 4, 8]


def test_parallel_streams_compute_at_the_same_time(stages: Stages) -> None:
    both = threading.Barrier(2)

    def meets_another(images: np.ndarray) -> dict[str, np.ndarray]:
        both.wait(60)
        return run(images)

    stages = replace(stages, run=meets_another, streams=2)
    assert len(list(computed(iter(sources(*range(16))), stages))) == 4


@pytest.mark.parametrize(
    ("batch_size", "streams", "read"), [(4, 1, 12), (4, 3, 28), (1, 1, 5), (1, 3, 7), (100, 1, 300)]
)
def test_so_much_is_read_ahead_and_no_more_while_nobody_asks(
    stages: Stages, batch_size: int, streams: int, read: int
) -> None:
    taken: list[int] = []
    readers: set[int] = set()

    def endless() -> Iterator[Source]:
        while True:
            taken.append(len(taken))
            readers.add(threading.get_ident())
            yield Source(1)

    stages = replace(stages, batch_size=batch_size, streams=streams)
    batches = computed(endless(), stages)
    assert taken == []
    next(batches)
    assert len(taken) == read == stages.batches * batch_size
    time.sleep(0.02)
    assert len(taken) == read
    next(batches)
    assert len(taken) == read + batch_size
    assert readers == {threading.get_ident()}
    batches.close()


@pytest.mark.parametrize("streams", [1, 2])
def test_memory_is_bounded(stages: Stages, streams: int) -> None:
    alive: weakref.WeakSet[Source] = weakref.WeakSet()
    most = 0

    def many() -> Iterator[Source]:
        nonlocal most
        for _ in range(400):
            source = Source(1)
            alive.add(source)
            most = max(most, len(alive))
            yield source

    stages = replace(stages, streams=streams)
    gc.disable()  # nothing waits for the collector either
    try:
        for batch in computed(many(), stages):
            del batch
        # One more batch: the one that was yielded before, and the one source that is being made.
        assert most <= (stages.batches + 1) * stages.batch_size + 1
        assert until(lambda: not alive)
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["closed", "dropped"])
@pytest.mark.parametrize("streams", [1, 2])
def test_a_stream_that_is_left_keeps_no_thread_busy_and_no_image(stages: Stages, how: str, streams: int) -> None:
    alive: weakref.WeakSet[Source] = weakref.WeakSet()
    slow = threading.Event()
    prepared: list[int] = []

    def noted(source: Any) -> Prepared:
        prepared.append(1)
        if source.value:
            slow.wait(60)
        return prepare(source)

    def many() -> Iterator[Source]:
        for index in range(400):
            source = Source(int(index >= 8))
            alive.add(source)
            yield source

    batches = computed(many(), replace(stages, prepare=noted, streams=streams))
    next(batches)
    assert until(lambda: len(prepared) >= 8)
    if how == "closed":
        batches.close()
    else:
        del batches
    slow.set()
    assert until(lambda: not alive)
    assert len(prepared) < 8 + 2 * stages.batch_size


def test_what_the_sources_raise_comes_after_what_they_gave(stages: Stages) -> None:
    def broken() -> Iterator[Source]:
        yield from sources(1, 2, 3, 4, 5, 6)
        raise ZeroDivisionError("of the sources")

    batches = computed(broken(), stages)
    assert [values(next(batches)), values(next(batches))] == [[1, 2, 3, 4], [5, 6]]
    with pytest.raises(ZeroDivisionError, match="of the sources"):
        next(batches)
    assert list(batches) == []


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("stage", ["prepare", "run"])
def test_what_a_stage_raises_comes_in_its_turn(stages: Stages, stage: str, streams: int) -> None:
    def fails(given: Any) -> Any:
        if (given.value if stage == "prepare" else int(given[0, 0, 0, 0])) == 8:
            raise ZeroDivisionError
        return (prepare if stage == "prepare" else run)(given)

    changed = replace(stages, streams=streams, **{stage: fails})
    batches = computed(iter(sources(*range(20))), changed)
    assert [values(next(batches))[0], values(next(batches))[0]] == [0, 4]
    with pytest.raises(ZeroDivisionError):
        next(batches)
    assert list(batches) == []


def test_one_image_alone_needs_no_thread(threads: ProcessThreads) -> None:
    used: list[int] = []

    def noted(source: Any) -> Prepared:
        used.append(threading.get_ident())
        return prepare(source)

    for streams in (1, 2):
        list(computed(iter(sources(1)), Stages(noted, run, threads, 4, streams)))
    assert used == [threading.get_ident()] * 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("streaming")]


def test_without_threads_it_all_goes_on_in_this_one() -> None:
    stages = Stages(prepare, run, ProcessThreads(0, "none"), 2, 2)
    assert [values(batch) for batch in computed(iter(sources(1, 2, 3)), stages)] == [[1, 2], [3]]


def test_the_threads_may_be_ended_in_the_middle(stages: Stages) -> None:
    batches = computed(iter(sources(*range(40))), stages)
    next(batches)
    stages.threads.end()
    assert [values(batch)[0] for batch in batches] == list(range(4, 40, 4))
