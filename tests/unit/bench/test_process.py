"""Real worker processes with fake sessions."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from toolkit.bench.job import Job
from toolkit.bench.process import STOP_SECONDS, WorkerFailedError, WorkerProcess

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and process ids are those of POSIX")


@pytest.fixture
def job(inputs, contract, plan):
    def make(**arguments):
        made = plan(**arguments)
        return Job(
            factory=made.factory,
            arguments=made.arguments,
            images=str(inputs.images),
            targets=str(inputs.targets),
            contract=contract,
            min_seconds=0.0,
        )

    return make


@pytest.fixture
def start(job, tmp_path):
    started = []

    def begin(**arguments):
        started.append(WorkerProcess(job(**arguments), tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield begin
    for worker in started:
        worker.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_replies_are_not_mixed_with_what_the_engine_prints(start, tmp_path):
    worker = start()
    worker.wait_ready()
    assert worker.ask("open")["engine"] == "fake 1.0"
    assert len(worker.ask("measure", batch_size=2)["seconds"]) >= 3
    assert worker.ask("accuracy", start=0, stop=20) == {"correct": "07fff0"}
    worker.close()
    assert "chatter" in (tmp_path / "0.log").read_text()


@POSIX
def test_memory_is_the_workers_own(start):
    held = np.ones(600 * 2**20, np.uint8)  # on Linux a child's ru_maxrss would start from this
    worker = start()
    worker.wait_ready()
    assert 5 * 2**20 < worker.ask("memory")["peak_memory_bytes"] < held.nbytes / 2


def test_an_exception_says_its_first_line(start):
    worker = start(fails={"2": "raise"})
    worker.wait_ready()
    worker.ask("open")
    with pytest.raises(WorkerFailedError, match=r"^RuntimeError: no memory for this batch$"):
        worker.ask("measure", batch_size=2)


def test_an_exit_says_its_code_and_last_words(start):
    worker = start(fails={"2": "exit"})
    worker.wait_ready()
    worker.ask("open")
    with pytest.raises(WorkerFailedError, match=r"^the worker ended with exit code 3: last words$"):
        worker.ask("measure", batch_size=2)


def test_an_exit_at_import(start):
    with pytest.raises(WorkerFailedError, match=r"^the worker ended with exit code 1: the engine is broken$"):
        start(dies_at_import=True).wait_ready()


@POSIX
def test_a_signal_is_named(start):
    worker = start(fails={"2": "kill"})
    worker.wait_ready()
    worker.ask("open")
    with pytest.raises(WorkerFailedError, match=r"^the worker was killed by SIGKILL .*memory runs out"):
        worker.ask("measure", batch_size=2)


@POSIX
def test_a_worker_that_is_gone_before_it_is_asked(start):
    worker = start()
    worker.wait_ready()
    os.kill(worker.pid, 15)
    with pytest.raises(WorkerFailedError, match=r"^the worker was killed by SIGTERM$"):
        worker.ask("open")


@POSIX
def test_close_ends_the_process(start):
    worker = start()
    worker.wait_ready()
    worker.close()
    assert not alive(worker.pid)


@POSIX
def test_ctrl_c_does_not_wait_until_a_call_has_ended(start):
    worker = start(fails={"2": "hang"})
    worker.wait_ready()
    worker.ask("open")
    worker._send({"do": "measure", "batch_size": 2})

    def interrupted():
        try:
            raise KeyboardInterrupt
        finally:
            worker.close()

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < STOP_SECONDS
    assert not alive(worker.pid)


@POSIX
def test_no_worker_outlives_a_parent_that_is_killed(job, tmp_path):
    (tmp_path / "job.json").write_text(job().to_json(), encoding="utf-8")
    script = (
        "import os, sys, pathlib\n"
        "from toolkit.bench.job import Job\n"
        "from toolkit.bench.process import WorkerProcess\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "worker = WorkerProcess(Job.from_json((folder / 'job.json').read_text(encoding='utf-8')), folder / "
        "'worker.log')\n"
        "worker.wait_ready()\n"
        "(folder / 'pid').write_text(str(worker.pid))\n"
        "os._exit(9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, timeout=6000).returncode == 9
    pid = int(Path(tmp_path / "pid").read_text())
    deadline = time.monotonic() + 120
    while alive(pid) and not zombie(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid) or zombie(pid)


def zombie(pid):
    """An orphan that nobody has waited for yet has ended all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_the_worker_imports_no_torch():
    code = (
        "import sys, toolkit.bench.worker; sys.exit(int(bool({'torch', 'onnxruntime', 'matplotlib', 'rich'} & "
        "sys.modules.keys())))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, cwd=Path(__file__).parents[3]).returncode == 0
