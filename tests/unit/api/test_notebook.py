from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest
from rich.console import Console

from toolkit.api import notebook
from toolkit.api.notebook import Lines, Notebook, reporter_for
from toolkit.progress import Silent


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    return now


def lines(*, terminal: bool) -> tuple[Lines, io.StringIO]:
    text = io.StringIO()
    return Lines(Console(file=text, force_terminal=terminal, width=100, highlight=False, soft_wrap=True)), text


def test_lines_and_the_bar_are_one_output(cell: Displayed, clock: list[float]) -> None:
    reporter = Notebook()
    reporter.line("data: <cats> & dogs\x1b[31m")
    with reporter.bar("epoch 1", 10, "img") as bar:
        assert 'value="0" max="10"' in cell.outputs[0]["text/html"]
        clock[0] += 2
        bar.advance(4, loss="0.12")
        (shown,) = cell.outputs
        assert 'value="4" max="10"' in shown["text/html"]
        assert "4/10 img, 2 img/s  loss 0.12" in shown["text/html"]
        assert shown["text/plain"].splitlines() == [
            "data: <cats> & dogs\\x1b[31m",
            "epoch 1: 4/10 img, 2 img/s  loss 0.12",
        ]
    reporter.line("done")
    (shown,) = cell.outputs
    assert "progress" not in shown["text/html"]
    assert "data: &lt;cats&gt; &amp; dogs\\x1b[31m\ndone" in shown["text/html"]


def test_a_notebook_is_not_updated_at_every_step(cell: Displayed, clock: list[float]) -> None:
    with Notebook().bar("epoch 1", 1000, "img") as bar:
        for _ in range(1000):
            clock[0] += 0.001
            bar.advance()
        assert cell.updates <= 5


def test_the_bar_goes_where_the_work_fails(cell: Displayed) -> None:
    reporter = Notebook()
    with pytest.raises(KeyboardInterrupt), reporter.bar("epoch 1", 10, "img"):
        raise KeyboardInterrupt
    assert "progress" not in cell.outputs[0]["text/html"]


def test_away_from_a_terminal_there_is_a_line_every_ten_seconds(clock: list[float]) -> None:
    reporter, text = lines(terminal=False)
    with reporter.bar("epoch 1", 100, "img") as bar:
        for _ in range(25):
            clock[0] += 1
            bar.advance(2)
    assert text.getvalue().splitlines() == [
        "epoch 1: 22/100 img, 2 img/s",
        "epoch 1: 44/100 img, 2 img/s",
    ]


def test_on_a_terminal_there_is_a_bar_and_lines_stay_whole() -> None:
    reporter, text = lines(terminal=True)
    with reporter.bar("epoch [1]", 100, "img") as bar:
        bar.advance(50)
        reporter.line("[a] " + "long " * 40)
    assert "epoch [1]" in text.getvalue()
    assert "[a] " + "long " * 39 in text.getvalue()


def test_progress_can_be_switched_off_or_be_ones_own() -> None:
    assert isinstance(reporter_for(False), Silent)
    assert isinstance(reporter_for(True), Lines)
    own = Silent()
    assert reporter_for(own) is own


def test_in_a_notebook_there_is_one_output(cell: Displayed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert isinstance(reporter_for(True), Notebook)
