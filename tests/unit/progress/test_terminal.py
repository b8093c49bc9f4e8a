from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from toolkit.progress import ONE_STEP
from toolkit.progress.shown import Shown
from toolkit.progress.terminal import Bars


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def reporter(clock: Clock, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.setattr("toolkit.progress.shown.LOOK_SECONDS", 3600)  # nothing but the test looks
    return Shown(Bars(Console(file=screen, force_terminal=True, width=160, soft_wrap=True, highlight=False)), clock)


@pytest.mark.parametrize(("unit", "steps", "rate"), [("B", 5_000_000, "MB/s"), ("images", 50, "images/s")])
def test_a_bar_shows_count_rate_and_fields(
    reporter: Shown, clock: Clock, screen: Screen, unit: str, steps: int, rate: str
) -> None:
    with reporter.bar("working", 2 * steps, unit) as bar:
        for _ in range(2):
            clock.now += 1
            bar.advance(steps, loss="0.12", accuracy="0.9")
            reporter.look()
    for part in ("working", f"{2 * steps}/{2 * steps}", rate, "loss 0.12  accuracy 0.9"):
        assert part in screen.getvalue()


@pytest.mark.parametrize(("total", "unit"), [(1, ONE_STEP), (4, "rows"), (0, "B")])
def test_something_moves_every_three_seconds_whatever_the_work_does(
    reporter: Shown, clock: Clock, screen: Screen, total: int, unit: str
) -> None:
    """Nothing is counted: what is drawn is another picture all the same."""
    with reporter.bar("working", total, unit):
        for _ in range(10):
            before = screen.getvalue()
            pictures = set()
            for _ in range(12):
                clock.now += 0.25
                reporter.look()
                pictures.add(screen.getvalue()[len(before) :])
                before = screen.getvalue()
            assert len(pictures) > 1


def test_lines_stand_above_the_bars_and_stay_whole(reporter: Shown, screen: Screen) -> None:
    with reporter.bar("epoch [1]", 100, "img") as bar:
        bar.advance(50)
        reporter.line("[a] " + "long " * 40)
    assert "epoch [1]" in screen.getvalue()
    assert "[a] " + "long " * 39 in screen.getvalue()


def test_nested_bars_are_one_display_that_goes_with_the_last(reporter: Shown, screen: Screen) -> None:
    with reporter.bar("outer", 1, ONE_STEP):
        with reporter.bar("inner", 3, "img"):
            assert "inner" in screen.getvalue()
        shown = len(screen.getvalue())
        reporter.look()
        assert "outer" in screen.getvalue()[shown:]
        assert "inner" not in screen.getvalue()[shown:]
    shown = len(screen.getvalue())
    reporter.look()
    assert screen.getvalue()[shown:] == ""


def test_what_is_printed_to_a_file_meanwhile_gets_there(
    reporter: Shown, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the losses of ``python train.py > losses.txt``; on a terminal they come above the bars."""
    losses = io.StringIO()
    monkeypatch.setattr(sys, "stdout", losses)
    with reporter.bar("epoch 1", 100, "img"):
        print("0.25")  # noqa: T201 - what a person's script does
    assert losses.getvalue() == "0.25\n"
    assert "0.25" not in screen.getvalue()

    monkeypatch.setattr(sys, "stdout", Screen())
    with reporter.bar("epoch 1", 100, "img"):
        print("0.5")  # noqa: T201
    assert "0.5\n" in screen.getvalue()
