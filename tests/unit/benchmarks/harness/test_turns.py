"""Processes that take turns."""

import sys
import time

import pytest

from benchmarks.harness.child import Command
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.turns import run_in_turns

BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint('done')"


def test_turns_are_counted_by_themselves():
    began = time.perf_counter()
    first, second = run_in_turns([Command([sys.executable, "-c", BUSY])] * 2, (0.1, 0.05))
    elapsed = time.perf_counter() - began
    assert (first.stdout, second.stdout) == ("done\n", "done\n")
    # Each has worked for half a second of its own, and none was working in the other's turn.
    assert min(first.seconds, second.seconds) >= 0.5
    assert first.seconds + second.seconds <= elapsed
    # A moment that one of them notes is told in seconds of its own.
    assert first.seconds_until(first.turns[-1][1]) == pytest.approx(first.seconds)
    assert all(ended <= began for (_, ended), (began, _) in zip(first.turns, second.turns, strict=False))


def test_one_that_fails_in_its_turn_ends_the_others():
    commands = [
        Command([sys.executable, "-c", "import time; time.sleep(3600)"]),
        Command([sys.executable, "-c", "import sys; sys.exit(3)"]),
    ]
    began = time.perf_counter()
    with pytest.raises(BenchmarkError, match="ended with exit code 3"):
        run_in_turns(commands, (0.05, 5.0))
    assert time.perf_counter() - began < 1800
