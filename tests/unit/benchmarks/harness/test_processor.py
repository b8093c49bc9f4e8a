from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.harness.memory import anonymous_bytes
from benchmarks.harness.processor import processor_seconds

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")

BUSY = "import time\nuntil = time.process_time() + 0.1\nwhile time.process_time() < until: pass\n"
PARENT = (
    f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\nprint('done', flush=True)\ninput()\n"
)


ITSELF = (
    "import os\nfrom benchmarks.harness.processor import processor_seconds\n"
    "print(processor_seconds(os.getpid()), sum(os.times()[:4]))"
)


def test_what_a_process_has_taken_is_counted() -> None:
    counted, told = map(float, subprocess.check_output([sys.executable, "-c", BUSY + ITSELF], text=True).split())
    assert counted == pytest.approx(told, abs=0.05)
    assert counted > 0.1


def test_what_a_child_took_that_has_ended_is_counted_and_of_others_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        taken = processor_seconds(parent.pid)
        time.sleep(0.05)
        assert processor_seconds(parent.pid) == pytest.approx(taken, abs=0.02)
        assert anonymous_bytes(parent.pid) > 10**6
        parent.communicate(b"\n")
    assert taken >= 0.1
    assert processor_seconds(parent.pid) == 0
