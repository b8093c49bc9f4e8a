from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from toolkit.serving.batching import Batcher, File, Item, Stages
from toolkit.serving.interface import Outputs
from toolkit.serving.refusals import ModelFailed, Refusal, UnreadableImage
from toolkit.serving.strategy import Setting, Way

SECONDS = 10


class Engine:
    """An engine whose calls the test lets go; the output of an image is its first value."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.alone: list[bool] = []
        self.computed: list[int] = []
        self.finished: list[Sequence[Item]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.decoding = threading.Event()
        self.decoding.set()
        self.broken: set[int] = set()

    def _run(self, pixels: npt.NDArray[np.uint8], alone: bool) -> dict[str, npt.NDArray[np.float32]]:
        values = [int(image.flat[0]) for image in pixels]
        self.calls.append(values)
        self.alone.append(alone)
        self.entered.release()
        assert self.gate.wait(SECONDS)
        if self.broken.intersection(values):
            raise RuntimeError("no\nsuch kernel")
        return {"logits": np.array(values, np.float32)[:, None]}

    def prepare(self, file: File) -> npt.NDArray[np.uint8]:
        assert self.decoding.wait(SECONDS)
        if file[0] == 255:
            raise UnreadableImage("it is none")
        if file[0] == 254:
            raise OSError("a bug")
        return np.full((1, 1, 3), file[0], np.uint8)

    @property
    def stages(self) -> Stages:
        return Stages(
            self.prepare,
            lambda pixels: self._run(pixels, False),
            lambda pixels: self._run(pixels, True),
            lambda images, _: self.computed.append(images),
            self.finished.append,
        )


@pytest.fixture
def engine() -> Engine:
    return Engine()


Make = Callable[..., Batcher]


@pytest.fixture
def batcher(engine: Engine) -> Iterator[Make]:
    made: list[Batcher] = []

    def make(batch_size: int, calls: int = 1, wait_seconds: float = 0.0, decoders: int = 2) -> Batcher:
        setting = Setting(Way(batch_size, calls, 1), 1.0, wait_seconds, "")
        made.append(Batcher(engine.stages, setting, decoders, "test"))
        return made[-1]

    yield make
    engine.gate.set()
    engine.decoding.set()
    for one in made:
        one.close()


def item(*values: int) -> Item:
    return Item(np.stack([np.full((1, 1, 3), value, np.uint8) for value in values]))


def file(value: int) -> Item:
    return Item(bytes([value]))


def outcome(one: Item) -> Outputs:
    """Wait for what becomes of an item; a refusal is raised."""
    until = time.monotonic() + SECONDS
    while one.outcome is None:
        assert time.monotonic() < until, "it is not done"
        time.sleep(0.001)
    if isinstance(one.outcome, Refusal):
        raise one.outcome
    return one.outcome


def values(*items: Item) -> list[list[float]]:
    return [outcome(one)["logits"][:, 0].tolist() for one in items]


def test_each_item_gets_its_own_rows(batcher: Make) -> None:
    items = [item(1), item(2, 3), item(4)]
    batcher(8).submit(items)
    assert values(*items) == [[1], [2, 3], [4]]


def test_what_comes_while_the_engine_works_shares_the_next_call(engine: Engine, batcher: Make) -> None:
    engine.gate.clear()
    made = batcher(4)
    items = [item(value) for value in range(1, 7)]
    made.submit(items[:1])
    assert engine.entered.acquire(timeout=SECONDS)
    made.submit(items[1:])
    engine.gate.set()
    assert values(*items) == [[value] for value in range(1, 7)]
    assert engine.calls == [[1], [2, 3, 4, 5], [6]]
    assert engine.computed == [1, 4, 1]


def test_no_item_is_divided_and_no_call_is_too_large(engine: Engine, batcher: Make) -> None:
    engine.gate.clear()
    made = batcher(4)
    items = [item(1), item(2, 3, 4), item(5, 6), item(7)]
    made.submit(items[:1])
    assert engine.entered.acquire(timeout=SECONDS)
    made.submit(items[1:])
    engine.gate.set()
    values(*items)
    assert engine.calls == [[1], [2, 3, 4], [5, 6, 7]]


def test_one_that_fails_fails_alone(engine: Engine, batcher: Make) -> None:
    engine.gate.clear()
    engine.broken = {3}
    made = batcher(4)
    items = [item(1), item(2), item(3), item(4)]
    made.submit(items[:1])
    assert engine.entered.acquire(timeout=SECONDS)
    made.submit(items[1:])
    engine.gate.set()
    assert values(items[0], items[1], items[3]) == [[1], [2], [4]]
    with pytest.raises(ModelFailed, match=r"^the model could not be run: RuntimeError: no$"):
        outcome(items[2])


def test_a_file_that_cannot_be_read_fails_alone_either_way(engine: Engine, batcher: Make) -> None:
    for batch_size in (1, 8):
        items = [file(1), file(255), file(2), file(254)]
        batcher(batch_size).submit(items)
        assert values(items[0], items[2]) == [[1], [2]]
        with pytest.raises(UnreadableImage, match="it is none"):
            outcome(items[1])
        with pytest.raises(ModelFailed, match="OSError: a bug"):
            outcome(items[3])


def test_files_that_are_being_decoded_are_waited_for_shortly(engine: Engine, batcher: Make) -> None:
    engine.decoding.clear()
    made = batcher(2, wait_seconds=SECONDS)
    late, ready = file(1), item(2)
    made.submit([late, ready])
    time.sleep(0.05)
    assert engine.calls == []
    engine.decoding.set()
    assert values(late, ready) == [[1], [2]]
    assert sorted(engine.calls[0]) == [1, 2]


def test_the_wait_is_bounded(engine: Engine, batcher: Make) -> None:
    engine.decoding.clear()
    made = batcher(2, wait_seconds=0.02)
    late, ready = file(1), item(2)
    made.submit([late, ready])
    assert values(ready) == [[2]]
    assert engine.calls == [[2]]


def test_nobody_waits_for_a_file_that_has_failed(engine: Engine, batcher: Make) -> None:
    engine.decoding.clear()
    made = batcher(2, wait_seconds=SECONDS)
    bad, ready = file(255), item(2)
    made.submit([bad, ready])
    engine.decoding.set()
    assert values(ready) == [[2]]


def test_what_was_cancelled_is_neither_decoded_nor_computed(engine: Engine, batcher: Make) -> None:
    engine.gate.clear()
    made = batcher(1)
    items = [item(1), item(2), file(3), item(4)]
    made.submit(items[:1])
    assert engine.entered.acquire(timeout=SECONDS)
    made.submit(items[1:])
    items[1].is_wanted = items[2].is_wanted = False
    engine.gate.set()
    assert values(items[0], items[3]) == [[1], [4]]
    assert engine.calls == [[1], [4]]


def test_one_by_one_means_as_many_at_the_same_time_as_there_are_calls(engine: Engine, batcher: Make) -> None:
    engine.gate.clear()
    items = [file(value) for value in range(1, 4)]
    batcher(1, calls=2).submit(items)
    assert engine.entered.acquire(timeout=SECONDS)
    assert engine.entered.acquire(timeout=SECONDS)
    assert not engine.entered.acquire(timeout=0.05)
    engine.gate.set()
    assert values(*items) == [[1], [2], [3]]


def test_only_what_is_alone_gets_all_threads(engine: Engine, batcher: Make) -> None:
    engine.gate.clear()
    made = batcher(1, calls=2)
    first, second = item(1), item(2)
    made.submit([first])
    assert engine.entered.acquire(timeout=SECONDS)
    made.submit([second])
    assert engine.entered.acquire(timeout=SECONDS)
    engine.gate.set()
    values(first, second)
    assert engine.alone == [True, False]


def test_what_waits_is_shared_among_the_threads_that_are_free(engine: Engine, batcher: Make) -> None:
    engine.gate.clear()
    items = [file(value) for value in range(1, 9)]
    batcher(8, calls=2).submit(items)
    assert engine.entered.acquire(timeout=SECONDS)
    assert engine.entered.acquire(timeout=SECONDS)
    engine.gate.set()
    values(*items)
    assert sorted(len(call) for call in engine.calls[:2]) != [1, 7]
    assert max(len(call) for call in engine.calls) <= 4


def test_images_that_take_long_to_decode_are_not_collected(
    engine: Engine, batcher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.serving.batching.LONGEST_DECODING_SECONDS", 0.0)
    items = [file(value) for value in range(1, 9)]
    batcher(8, calls=2).submit(items)
    values(*items)
    assert [len(call) for call in engine.calls] == [1] * 8


def test_closing_finishes_what_was_submitted(engine: Engine, batcher: Make) -> None:
    made = batcher(2)
    items = [file(value) for value in range(1, 20)]
    made.submit(items)
    made.close()
    made.close()
    assert all(one.outcome is not None for one in items)
    assert values(*items) == [[value] for value in range(1, 20)]


def test_what_comes_too_late_is_not_taken(engine: Engine, batcher: Make) -> None:
    for made in (batcher(2), batcher(2, calls=2)):
        assert made.submit([file(1)])
        made.close()
        late = file(2)
        assert not made.submit([late])
        assert late.outcome is None


def test_the_items_of_a_call_are_told_of_at_once_and_each_of_them_once(engine: Engine, batcher: Make) -> None:
    for made in (batcher(4), batcher(4, calls=2)):
        engine.finished.clear()
        items = [file(1), file(255), file(254), file(2), item(3), file(4)]
        made.submit(items)
        made.close()
        told = [one for group in engine.finished for one in group]
        assert sorted(map(id, told)) == sorted(map(id, items))
        assert all(one.outcome is not None for one in told)


def test_phases_are_told_of_each_item(engine: Engine, batcher: Make) -> None:
    engine.decoding.clear()
    one = file(1)
    batcher(1).submit([one])
    time.sleep(0.03)
    engine.decoding.set()
    values(one)
    assert one.decode_seconds > 0.02
    assert 0 <= one.compute_seconds < 1
    assert 0 <= one.queue_seconds < 1
