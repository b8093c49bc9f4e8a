"""What a predictor holds, and that it lets go of it."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_sources import png

import toolkit
from toolkit.errors import ToolkitError

Maker = Callable[[str], np.ndarray]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux' /proc")
def test_predictors_that_are_dropped_leave_no_threads_and_no_open_files(
    colour_bundle: Path, colour_image: Maker
) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    toolkit.load(colour_bundle, threads=3).predict([colour_image("red")])
    gc.collect()
    before = held()
    for _ in range(20):
        toolkit.load(colour_bundle, threads=3).predict([colour_image("red")])
    gc.collect()
    after = held()
    # Fewer, where something that another test left behind ended meanwhile; 20 leaks are far more.
    assert all(now <= then for now, then in zip(after, before, strict=True)), (after, before)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system has no /proc")
def test_many_predictions_leave_no_threads_and_no_descriptors(
    colour_bundle: Path, colour_image: Maker, tmp_path: Path
) -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    def is_kept() -> bool:
        # Fewer, where something that another test left behind ended meanwhile; 30 leaks are far more.
        return all(now <= then for now, then in zip(held(), before, strict=True))

    file = tmp_path / "a.png"
    file.write_bytes(png(colour_image("red")))
    predictor = toolkit.load(colour_bundle, threads=1)
    predictor.predict([file] * 4)
    before = held()
    for _ in range(30):
        predictor.predict([file, str(file), file.read_bytes(), io.BytesIO(file.read_bytes())], batch_size=2)
        list(predictor.stream([b"broken", tmp_path / "gone.png", file]))
        next(iter(predictor.stream([file] * 8, batch_size=1)))  # and is left
    gc.collect()
    end = time.monotonic() + 60
    while not is_kept() and time.monotonic() < end:
        time.sleep(0.001)  # the file that was decoded when the last stream was left
    assert is_kept(), (held(), before)


USES: dict[str, Callable[[toolkit.Predictor], object]] = {
    "predict": lambda predictor: predictor.predict(np.zeros((8, 8, 3), np.uint8)),
    "stream": lambda predictor: predictor.stream([]),
    "prepare": lambda predictor: predictor.prepare(np.zeros((8, 8, 3), np.uint8)),
    "run": lambda predictor: predictor.run(np.zeros((1, 8, 8, 3), np.uint8)),
    "selftest": lambda predictor: predictor.selftest(),
    "session": lambda predictor: predictor.session,
    "with": lambda predictor: predictor.__enter__(),
    "pickle": pickle.dumps,
    "copy": copy.copy,
}


@pytest.mark.parametrize("use", USES)
def test_a_predictor_that_was_closed_says_so(tuned_bundle: Path, colour_image: Maker, use: str) -> None:
    with toolkit.load(tuned_bundle, tuned="throughput") as predictor:
        assert predictor.predict([colour_image("red")] * 9)[8].label == "red"
    predictor.close()
    with pytest.raises(ToolkitError) as caught:
        USES[use](predictor)
    assert str(caught.value) == "this predictor was closed: open the bundle again with toolkit.load."
    assert predictor.labels == ("blue", "green", "red")


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("toolkit-decode")]


def test_threads_are_made_once_and_end_with_it(colour_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(colour_bundle, threads=1)
    before = decoding_threads()
    predictor.predict(colour_image("red"))
    assert decoding_threads() == before
    predictor.predict([colour_image("red")] * 40)
    (made,) = [thread for thread in decoding_threads() if thread not in before]
    for _ in range(3):
        predictor.predict([colour_image("red")] * 40, batch_size=3)
        next(predictor.stream([colour_image("red")] * 40, batch_size=3))
    assert [thread for thread in decoding_threads() if thread not in before] == [made]
    predictor.close()
    assert not made.is_alive()


def test_a_predictor_that_is_dropped_ends_its_threads_and_frees_the_engine(
    colour_bundle: Path, colour_image: Maker
) -> None:
    predictor = toolkit.load(colour_bundle, threads=1)
    before = decoding_threads()
    stream = predictor.stream([colour_image("red")] * 400, batch_size=2)
    next(stream)
    made = [thread for thread in decoding_threads() if thread not in before]
    session = weakref.ref(predictor.session)
    del predictor, stream
    for thread in made:
        thread.join(60)
        assert not thread.is_alive()
    gc.collect()
    assert session() is None


def test_closing_frees_the_engine(colour_bundle: Path) -> None:
    predictor = toolkit.load(colour_bundle)
    session = weakref.ref(predictor.session)
    predictor.close()
    assert session() is None


@pytest.mark.parametrize("streams", [False, True])
def test_a_stream_of_a_predictor_that_is_closed_ends_in_the_sentence(
    tuned_bundle: Path, colour_image: Maker, streams: bool
) -> None:
    predictor = toolkit.load(tuned_bundle, tuned="throughput" if streams else "latency")
    stream = predictor.stream([colour_image("red")] * 100, batch_size=2)
    assert [next(stream)[1].label for _ in range(2)] == ["red", "red"]  # type: ignore[union-attr]  # a prediction
    predictor.close()
    with pytest.raises(ToolkitError, match="was closed"):
        list(stream)


def test_calls_in_other_threads_end_well_when_it_is_closed(colour_bundle: Path, colour_image: Maker) -> None:
    predictor = toolkit.load(colour_bundle, threads=2)
    said: list[object] = []

    def ask() -> None:
        try:
            while True:
                said.append({one.label for one in predictor.predict([colour_image("red")] * 7, batch_size=2)})
        except ToolkitError as error:
            said.append(str(error))

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    while len(said) < 6:
        pass
    predictor.close()
    for caller in callers:
        caller.join(60)
    closed = "this predictor was closed: open the bundle again with toolkit.load."
    assert [one for one in said if one != {"red"}] == [closed] * 3
