from __future__ import annotations

import threading
import time

import pytest

from toolkit.cli.signs_of_life import SignsOfLife
from toolkit.progress import ONE_STEP


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def signs(clock: Clock, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> SignsOfLife:
    # The thread is asleep, so that nothing but the test looks.
    monkeypatch.setattr("toolkit.cli.signs_of_life.LOOK_SECONDS", 3600)
    monkeypatch.setattr("toolkit.cli.signs_of_life.FIRST_SECONDS", 3)
    return SignsOfLife(lines.append, clock)


def test_nothing_for_three_seconds_then_a_line_every_ten(signs: SignsOfLife, clock: Clock, lines: list[str]) -> None:
    with signs.task("stage 1", 64, "img") as bar:
        seen = []
        for _ in range(30):
            clock.now += 1
            bar.advance(2, loss="0.5")
            signs.look()
            seen.append(len(lines))
    assert [second for second, count in enumerate(seen, 1) if count > (seen[second - 2] if second > 1 else 0)] == [
        3,
        13,
        23,
    ]
    assert lines[0] == "stage 1: 6/64 img, 2.0 img/s, loss 0.5"


def test_lines_that_come_by_themselves_are_enough(signs: SignsOfLife, clock: Clock, lines: list[str]) -> None:
    with signs.task("stage 1", 64, "img"):
        for _ in range(30):
            clock.now += 2
            signs.look()
            signs.said()
    assert lines == []


def test_work_without_steps_says_for_how_long(signs: SignsOfLife, clock: Clock, lines: list[str]) -> None:
    with signs.task("exporting onnx", 1, ONE_STEP):
        clock.now += 12
        signs.look()
    assert lines == ["exporting onnx: 12 s so far"]


def test_the_innermost_task_is_told_of(signs: SignsOfLife, clock: Clock, lines: list[str]) -> None:
    with signs.task("outer", 1, ONE_STEP):
        with signs.task("download", 0, "B") as bar:
            bar.advance(2_500_000)
            clock.now += 5
            signs.look()
        clock.now += 20
        signs.look()
    assert lines == ["download: 2.5 MB", "outer: 25 s so far"]


def test_what_is_counted_to_its_end_and_goes_on_says_so(signs: SignsOfLife, clock: Clock, lines: list[str]) -> None:
    with signs.task("verify onnx", 280, "images") as bar:
        bar.advance(280)
        clock.now += 5
        signs.look()
    assert lines == ["verify onnx: all 280 images done, finishing; 5 s so far"]


def test_nothing_when_nothing_is_being_done(signs: SignsOfLife, clock: Clock, lines: list[str]) -> None:
    clock.now += 60
    signs.look()
    assert lines == []


def test_the_thread_looks_by_itself_and_ends_with_the_task(
    clock: Clock, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.cli.signs_of_life.LOOK_SECONDS", 0.001)
    monkeypatch.setattr("toolkit.cli.signs_of_life.FIRST_SECONDS", 3)
    signs = SignsOfLife(lines.append, clock)
    before = set(threading.enumerate())
    with signs.task("work", 1, ONE_STEP):
        (thread,) = set(threading.enumerate()) - before
        assert thread.daemon
        clock.now += 4
        until = time.monotonic() + 20
        while not lines and time.monotonic() < until:
            time.sleep(0.001)
    thread.join(20)
    assert not thread.is_alive()
    assert lines == ["work: 4 s so far"]


def test_an_interrupted_task_ends_its_thread_too(signs: SignsOfLife) -> None:
    before = set(threading.enumerate())
    started: list[threading.Thread] = []

    def interrupted() -> None:
        with signs.task("work", 1, ONE_STEP):
            started.extend(set(threading.enumerate()) - before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (thread,) = started
    thread.join(20)
    assert not thread.is_alive()
