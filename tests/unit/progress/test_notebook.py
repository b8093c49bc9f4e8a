from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from toolkit.progress import ONE_STEP
from toolkit.progress.notebook import Cell
from toolkit.progress.shown import Shown


class Displayed:
    """What a cell shows: one output, as IPython would keep it."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, str]] = []
        self.updates = 0

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Displayed:
        assert raw
        assert display_id
        self.outputs.append(content)
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.outputs[-1] = content
        self.updates += 1


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Displayed:
    shown = Displayed()
    module: Any = types.ModuleType("IPython.display")
    module.display = shown.display
    package: Any = types.ModuleType("IPython")
    package.display, package.__file__, module.__file__ = module, "here", "here"
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reporter(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.setattr("toolkit.progress.shown.LOOK_SECONDS", 3600)  # nothing but the test looks
    return Shown(Cell(), clock)


def test_lines_and_the_bar_are_one_output(cell: Displayed, reporter: Shown, clock: Clock) -> None:
    reporter.line("data: <cats> & dogs\x1b[31m")
    with reporter.bar("epoch <1>", 10, "img") as bar:
        assert 'value="0" max="10"' in cell.outputs[0]["text/html"]
        clock.now += 2
        bar.advance(4, loss="0.12")
        reporter.look()
        (shown,) = cell.outputs
        assert 'epoch &lt;1&gt; <progress value="4" max="10">' in shown["text/html"]
        assert "4/10 img, 2.0 img/s, loss 0.12" in shown["text/html"]
        assert shown["text/plain"].splitlines() == [
            "data: <cats> & dogs\\x1b[31m",
            "epoch <1>: 4/10 img, 2.0 img/s, loss 0.12",
        ]
    reporter.line("done")
    (shown,) = cell.outputs
    assert "progress" not in shown["text/html"]
    assert "data: &lt;cats&gt; &amp; dogs\\x1b[31m\ndone" in shown["text/html"]


def test_a_notebook_is_not_updated_at_every_step(cell: Displayed, reporter: Shown, clock: Clock) -> None:
    with reporter.bar("epoch 1", 1000, "img") as bar:
        for _ in range(1000):
            clock.now += 0.001
            bar.advance()
            reporter.look()
        assert cell.updates <= 3


def test_something_changes_every_three_seconds_though_nothing_is_counted(
    cell: Displayed, reporter: Shown, clock: Clock
) -> None:
    with reporter.bar("starting", 4, "rows"), reporter.bar("opening", 1, ONE_STEP):
        assert "opening <progress></progress> 0 s so far" in cell.outputs[0]["text/html"]
        for _ in range(10):
            before = cell.outputs[-1]
            for _ in range(12):
                clock.now += 0.25
                reporter.look()
            assert cell.outputs[-1] != before


def test_the_bar_that_is_left_is_shown_again(cell: Displayed, reporter: Shown) -> None:
    with reporter.bar("outer", 1, ONE_STEP):
        with reporter.bar("inner", 3, "img"):
            assert cell.outputs[0]["text/html"].count("<progress") == 2
        assert "outer" in cell.outputs[0]["text/html"]
        assert "inner" not in cell.outputs[0]["text/html"]


def test_the_bar_goes_where_the_work_fails(cell: Displayed, reporter: Shown) -> None:
    with pytest.raises(KeyboardInterrupt), reporter.bar("epoch 1", 10, "img"):
        raise KeyboardInterrupt
    assert "progress" not in cell.outputs[0]["text/html"]
