"""Child processes of the benchmarks: what is measured of them, and what is said when one fails."""

import sys

import numpy as np
import pytest

from benchmarks.harness.child import Run, run_child
from benchmarks.harness.errors import BenchmarkError


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="wait4 counts descendants on Linux")
def test_peak_is_that_of_the_largest_process():
    grandchild = "import time; block = b'x' * 300_000_000; time.sleep(0.6)"
    run = run_child(
        [
            sys.executable,
            "-c",
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)",
        ]
    )
    assert 300e6 < run.peak_bytes < 400e6


def test_child_is_measured():
    run = run_child([sys.executable, "-c", "import time; block = b'x' * 60_000_000; time.sleep(0.6); print('done')"])
    assert run.stdout == "done\n"
    assert 0.6 < run.seconds < 600
    if run.peak_bytes is not None:
        assert 60e6 < run.peak_bytes < 160e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_is_not_inherited_from_this_process():
    block = np.ones(40_000_000)  # 320 MB
    run = run_child([sys.executable, "-c", "import time; time.sleep(0.5)"])
    assert block.nbytes > 300e6
    assert run.peak_bytes is not None
    assert run.peak_bytes < 100e6


def test_child_that_fails_says_what_it_said():
    with pytest.raises(BenchmarkError, match=r"(?s)ended with exit code 3; it said:\nno such thing$"):
        run_child([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_an_exit_code_that_is_allowed_is_no_failure():
    ends_in_1 = [sys.executable, "-c", "print('told'); raise SystemExit(1)"]
    assert run_child(ends_in_1, allowed=(0, 1)).stdout == "told\n"
    with pytest.raises(BenchmarkError, match="exit code 1"):
        run_child(ends_in_1)


def test_command_that_does_not_exist():
    with pytest.raises(BenchmarkError, match="cannot be started"):
        run_child(["no-such-command-anywhere"])


@pytest.mark.parametrize(
    ("moment", "seconds"), [(9.0, 0.0), (10.0, 0.0), (11.5, 1.5), (12.0, 2.0), (15.0, 2.0), (21.0, 3.0), (99.0, 7.0)]
)
def test_a_moment_is_told_in_seconds_of_its_own_turns(moment, seconds):
    run = Run(7.0, None, None, "", turns=((10.0, 12.0), (20.0, 25.0)))
    assert run.seconds_until(moment) == seconds
