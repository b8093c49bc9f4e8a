from __future__ import annotations

import io
from itertools import pairwise

import pytest
from rich.console import Console

from toolkit.progress import ONE_STEP
from toolkit.progress.lines import Lines
from toolkit.progress.shown import LOOK_SECONDS, Shown


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Stamped(io.StringIO):
    """A file that notes when each of its lines was written."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.times: list[float] = []

    def write(self, text: str) -> int:
        self.times += [self._clock.now] * text.count("\n")
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(clock: Clock) -> Stamped:
    return Stamped(clock)


@pytest.fixture
def reporter(clock: Clock, file: Stamped, monkeypatch: pytest.MonkeyPatch) -> Shown:
    # The thread is asleep, so that nothing but the test looks.
    monkeypatch.setattr("toolkit.progress.shown.LOOK_SECONDS", 3600)
    return Shown(Lines(Console(file=file, width=100, highlight=False, soft_wrap=True)), clock)


def watch(reporter: Shown, clock: Clock, seconds: float) -> None:
    """Let time pass; look as often as the thread does."""
    for _ in range(round(seconds / LOOK_SECONDS)):
        clock.now += LOOK_SECONDS
        reporter.look()


def test_nothing_for_three_seconds_then_a_line_every_seven(reporter: Shown, clock: Clock, file: Stamped) -> None:
    with reporter.bar("stage 1", 64, "img") as bar:
        for _ in range(30):
            bar.advance(2, loss="0.5")
            watch(reporter, clock, 1)
    assert [time - 100 for time in file.times] == [3, 10, 17, 24]
    assert file.lines[0] == "stage 1: 6/64 img, 2.0 img/s, loss 0.5"


@pytest.mark.parametrize("steps", [(0.1, 2.9), (2.5, 7.9, 0.2), (9.0, 31.0), (0.5,) * 40, (3.1, 0.3, 8.2, 5.0)])
def test_ten_seconds_are_never_without_a_line_and_lines_are_no_flood(
    reporter: Shown, clock: Clock, file: Stamped, steps: tuple[float, ...]
) -> None:
    """Work of any lengths that never counts, with lines of its own between: the display alone keeps the promise."""
    signs = 0
    with reporter.bar("job", 1, ONE_STEP):
        for seconds in steps * 10:
            with reporter.bar("work", 200, "rows"):
                before = len(file.times)
                watch(reporter, clock, seconds)
                signs += len(file.times) - before
            reporter.line("done")
    times = [100.0, *file.times]
    assert max(later - earlier for earlier, later in pairwise(times)) <= 8
    assert signs <= 1 + sum(steps) * 10 / 7


def test_lines_that_come_by_themselves_are_enough(reporter: Shown, clock: Clock, file: Stamped) -> None:
    with reporter.bar("stage 1", 64, "img"):
        for _ in range(30):
            watch(reporter, clock, 2)
            reporter.line("said")
    assert set(file.lines) == {"said"}


def test_work_without_steps_says_for_how_long(reporter: Shown, clock: Clock, file: Stamped) -> None:
    with reporter.bar("exporting onnx", 1, ONE_STEP):
        clock.now += 12
        reporter.look()
    assert file.lines == ["exporting onnx: 12 s so far"]


def test_work_that_counts_nothing_yet_says_for_how_long_too(reporter: Shown, clock: Clock, file: Stamped) -> None:
    with reporter.bar("starting", 4, "rows") as bar:
        clock.now += 12
        reporter.look()
        bar.advance(row="eager (cpu)")
        clock.now += 12
        reporter.look()
    assert file.lines == [
        "starting: 0/4 rows, 12 s so far",
        "starting: 1/4 rows, 24 s so far, row eager (cpu)",
    ]


def test_the_innermost_task_is_told_of(reporter: Shown, clock: Clock, file: Stamped) -> None:
    with reporter.bar("outer", 1, ONE_STEP):
        with reporter.bar("download", 0, "B") as bar:
            bar.advance(2_500_000)
            clock.now += 5
            reporter.look()
        clock.now += 20
        reporter.look()
    assert file.lines == ["download: 2.5 MB", "outer: 25 s so far"]


def test_what_is_counted_to_its_end_and_goes_on_says_so(reporter: Shown, clock: Clock, file: Stamped) -> None:
    with reporter.bar("verify onnx", 280, "images") as bar:
        bar.advance(280)
        clock.now += 5
        reporter.look()
        bar.advance(0, now="batch invariance")
        clock.now += 8
        reporter.look()
    assert file.lines == [
        "verify onnx: all 280 images done, finishing; 5 s so far",
        "verify onnx: all 280 images done, now batch invariance; 13 s so far",
    ]


def test_nothing_when_nothing_is_being_done(reporter: Shown, clock: Clock, file: Stamped) -> None:
    watch(reporter, clock, 60)
    assert file.lines == []


def test_a_line_is_no_markup_and_stays_whole(reporter: Shown, file: Stamped) -> None:
    reporter.line("[stage 1] \x1b[31m" + "long " * 60)
    assert file.lines == ["[stage 1] \\x1b[31m" + "long " * 60]
