from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from toolkit.errors import ToolkitError
from toolkit.progress import ONE_STEP, Silent
from toolkit.progress.lines import Lines
from toolkit.progress.notebook import Cell
from toolkit.progress.shown import Display, Shown, Task, reporter_for
from toolkit.progress.terminal import Bars


class Seen:
    """A display that keeps what it was shown."""

    def __init__(self, fail: Exception | None = None) -> None:
        self.lines: list[str] = []
        self.tasks: list[tuple[str, ...]] = []
        self.threads: set[str] = set()
        self.fail = fail

    def line(self, text: str, now: float) -> None:
        del now
        if self.fail is not None:
            raise self.fail
        self.lines.append(text)

    def show(self, tasks: Sequence[Task], now: float) -> None:
        del now
        if self.fail is not None:
            raise self.fail
        self.tasks.append(tuple(task.description for task in tasks))
        self.threads.add(threading.current_thread().name)


def display_of(reporter: object) -> Display | None:
    assert isinstance(reporter, Shown)
    return reporter._display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_thread_shows_what_is_being_done_though_the_work_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.progress.shown.LOOK_SECONDS", 0.001)
    display = Seen()
    before = set(threading.enumerate())
    with Shown(display).bar("work", 1, ONE_STEP):
        (thread,) = set(threading.enumerate()) - before
        assert thread.daemon
        until = time.monotonic() + 20
        while thread.name not in display.threads and time.monotonic() < until:
            time.sleep(0.001)
    thread.join(20)
    assert not thread.is_alive()
    assert thread.name in display.threads
    assert display.tasks[0] == ("work",)
    assert display.tasks[-1] == ()


def test_an_interrupted_task_ends_its_thread_too() -> None:
    before = set(threading.enumerate())
    started: list[threading.Thread] = []
    display = Seen()

    def interrupted() -> None:
        with Shown(display).bar("work", 1, ONE_STEP):
            started.extend(set(threading.enumerate()) - before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (thread,) = started
    thread.join(20)
    assert not thread.is_alive()
    assert display.tasks[-1] == ()


def test_tasks_of_several_threads_are_shown_together() -> None:
    display = Seen()
    reporter = Shown(display)
    with reporter.bar("one", 1, ONE_STEP):
        inside, leave = threading.Event(), threading.Event()

        def other() -> None:
            with reporter.bar("two\x1b", 1, ONE_STEP):
                inside.set()
                leave.wait(20)

        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(20)
        reporter.look()
        leave.set()
        thread.join(20)
    assert ("one", "two\\x1b") in display.tasks


@pytest.mark.parametrize(
    "gone", [BrokenPipeError(), OSError(5, "Input/output error"), ValueError("I/O operation on closed file.")]
)
def test_work_goes_on_when_nobody_can_see_it_any_more(gone: Exception) -> None:
    display = Seen(gone)
    reporter = Shown(display)
    with reporter.bar("work", 2, "img") as bar:
        bar.advance()
        reporter.line("half")
        display.fail = None
        reporter.line("nobody is asked again")
    assert display.lines == []


def test_a_display_that_is_broken_is_a_bug_and_not_hidden() -> None:
    with pytest.raises(ValueError, match="a bug"):
        Shown(Seen(ValueError("a bug"))).line("text")


def test_progress_can_be_switched_off_or_be_ones_own() -> None:
    assert isinstance(reporter_for(False), Silent)
    own = Silent()
    assert reporter_for(own) is own


@pytest.mark.parametrize("wrong", [None, 1, "no", object()])
def test_what_is_no_reporter_is_said_at_once(wrong: Any) -> None:
    with pytest.raises(ToolkitError, match="give True, False, or an object with 'line' and 'bar'"):
        reporter_for(wrong)


@pytest.mark.parametrize(
    ("term", "file", "display"),
    [("xterm", Terminal, Bars), ("dumb", Terminal, Lines), ("xterm", io.StringIO, Lines)],
)
def test_the_display_is_that_of_standard_error(
    monkeypatch: pytest.MonkeyPatch, term: str, file: type[io.StringIO], display: type
) -> None:
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", file())
    assert isinstance(display_of(reporter_for(True)), display)


def test_in_a_notebook_there_is_one_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert isinstance(display_of(reporter_for(True)), Cell)


def test_there_may_be_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    reporter = reporter_for(True)
    with reporter.bar("work", 1, ONE_STEP):
        reporter.line("nobody reads it")


def test_a_console_that_is_closed_midway_ends_nothing() -> None:
    file = io.StringIO()
    reporter = Shown(Lines(Console(file=file)))
    reporter.line("one")
    file.close()
    reporter.line("two")
