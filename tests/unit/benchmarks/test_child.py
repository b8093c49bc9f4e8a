"""Child processes of the benchmarks: what is measured of them, and what is said when one fails."""

import sys
import time

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("reported", "sampled", "floor", "expected"),
    [
        (900, 850, 100, 900),
        (102, 30, 100, 30),
        (102, None, 100, None),
        (900, None, None, 900),
        (None, 850, 100, 850),
        (None, None, None, None),
    ],
)
def test_peak_is_the_exact_one_unless_it_may_be_inherited(child, reported, sampled, floor, expected):
    assert child.peak_of(reported, sampled, floor) == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="wait4 counts descendants on Linux")
def test_peak_is_that_of_the_largest_process(child):
    grandchild = "import time; block = b'x' * 300_000_000; time.sleep(0.6)"
    run = child.run_child(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)",
        ]
    )
    assert 300e6 < run.peak_bytes < 400e6


def test_child_is_measured(child):
    run = child.run_child(
        [sys.executable, "-c", "import time; block = b'x' * 60_000_000; time.sleep(0.6); print('done')"]
    )
    assert run.stdout == "done\n"
    assert 0.6 < run.seconds < 600
    if run.peak_bytes is not None:
        assert 60e6 < run.peak_bytes < 160e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_is_not_inherited_from_this_process(child):
    block = np.ones(40_000_000)  # 320 MB
    run = child.run_child([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert block.nbytes > 300e6
    assert run.peak_bytes is not None
    assert run.peak_bytes < 100e6


def test_child_that_fails_says_what_it_said(child):
    with pytest.raises(child.BenchmarkError, match=r"(?s)ended with exit code 3; it said:\nno such thing$"):
        child.run_child([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_an_exit_code_that_is_allowed_is_no_failure(child):
    ends_in_1 = [sys.executable, "-c", "print('told'); raise SystemExit(1)"]
    assert child.run_child(ends_in_1, allowed=(0, 1)).stdout == "told\n"
    with pytest.raises(child.BenchmarkError, match="exit code 1"):
        child.run_child(ends_in_1)


BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint('done')"


def test_turns_are_counted_by_themselves(child):
    began = time.perf_counter()
    first, second = child.run_in_turns([child.Command([sys.executable, "-c", BUSY])] * 2, (0.1, 0.05))
    elapsed = time.perf_counter() - began
    assert (first.stdout, second.stdout) == ("done\n", "done\n")
    # Each has worked for half a second of its own, and none was working in the other's turn.
    assert min(first.seconds, second.seconds) >= 0.5
    assert first.seconds + second.seconds <= elapsed


def test_one_that_fails_in_its_turn_ends_the_others(child):
    commands = [
        child.Command([sys.executable, "-c", "import time; time.sleep(3600)"]),
        child.Command([sys.executable, "-c", "import sys; sys.exit(3)"]),
    ]
    began = time.perf_counter()
    with pytest.raises(child.BenchmarkError, match="ended with exit code 3"):
        child.run_in_turns(commands, (0.05, 5.0))
    assert time.perf_counter() - began < 1800


def test_command_that_does_not_exist(child):
    with pytest.raises(child.BenchmarkError, match="cannot be started"):
        child.run_child(["no-such-command-anywhere"])
