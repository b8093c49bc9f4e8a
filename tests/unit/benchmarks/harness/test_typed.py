"""Lines of commands and when they came."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.typed import Line, Silence, Typed, Typing


def typing(program: str, folder: Path) -> Typing:
    return Typing("the command", [sys.executable, "-I", "-S", "-u", "-c", program], os.environ, folder)


def typed(*seconds: float, end: float) -> Typed:
    return Typed("toolkit", 0.0, tuple(Line(at, f"line {at:g}") for at in seconds), end, 0)


@pytest.mark.parametrize(
    ("command", "silence"),
    [
        (typed(3.0, 4.0, 5.0, end=5.5), Silence(3.0, "")),
        (typed(0.5, 1.0, 9.0, end=10.0), Silence(8.0, "line 1")),
        (typed(0.5, 1.0, end=4.0), Silence(3.0, "line 1")),
        (typed(end=4.0), Silence(4.0, "")),
    ],
    ids=["before the first line", "between two", "after the last one", "none at all"],
)
def test_the_largest_silence(command: Typed, silence: Silence) -> None:
    assert command.largest_silence() == silence


def test_the_first_line_and_that_there_is_none() -> None:
    assert typed(0.5, 1.0, end=4.0).first_line() == 0.5
    assert typed(end=4.0).first_line() is None


def test_lines_have_their_times_and_errors_are_among_them(tmp_path: Path) -> None:
    program = "import sys, time; print('first'); time.sleep(0.2); print('second', file=sys.stderr); sys.exit(3)"
    with typing(program, tmp_path) as command:
        ended = command.end(60)
    assert ended is not None
    first, second = ended.lines
    assert (first.text, second.text, ended.code) == ("first", "second", 3)
    assert 0 < first.seconds <= second.seconds - 0.15
    assert second.seconds <= ended.seconds < 60


def test_a_line_is_waited_for_while_the_command_runs_on(tmp_path: Path) -> None:
    with typing("import time; print('ready now'); time.sleep(60)", tmp_path) as command:
        assert command.wait_for(lambda text: "ready" in text, 60)
        assert command.end(0) is None


@pytest.mark.parametrize(("program", "seconds"), [("print('other')", 60), ("import time; time.sleep(60)", 0.0)])
def test_a_line_that_does_not_come(program: str, seconds: float, tmp_path: Path) -> None:
    with typing(program, tmp_path) as command:
        assert not command.wait_for(lambda text: "ready" in text, seconds)


def test_ctrl_c_reaches_it(tmp_path: Path) -> None:
    program = "import signal, sys, time\nsignal.signal(2, lambda *_: sys.exit(130))\nprint('ready')\ntime.sleep(60)"
    with typing(program, tmp_path) as command:
        assert command.wait_for("ready".__eq__, 60)
        command.interrupt()
        ended = command.end(60)
    assert ended is not None
    assert ended.code == 130


def test_ctrl_c_reaches_it_where_a_shell_lets_its_background_jobs_ignore_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with typing("import time; print('ready'); time.sleep(60)", tmp_path) as command:
            assert command.wait_for("ready".__eq__, 60)
            command.interrupt()
            ended = command.end(60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended is not None
    assert ended.lines[-1].text == "KeyboardInterrupt"


def test_leaving_the_block_ends_it(tmp_path: Path) -> None:
    began = time.monotonic()
    with typing("import time; time.sleep(60)", tmp_path) as command:
        pass
    ended = command.end(0)
    assert ended is not None
    assert ended.code < 0
    assert time.monotonic() - began < 30


def test_a_command_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"^no-such-command cannot be started: No such file or directory\.$"):
        Typing("toolkit", ["no-such-command"], os.environ, tmp_path)
