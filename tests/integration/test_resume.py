"""A run that is killed at any moment goes on and ends as if it had never been killed: real processes, real SIGKILL."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.files import sha256_file
from toolkit.runs import RunFolder

pytestmark = pytest.mark.slow

KILLS = 25
ARGUMENTS = (
    *(
        "--recipe",
        "digits",
        "--image-size",
        "32",
        "--train-limit",
        "500",
        "--test-limit",
        "60",
        "--threads",
        "1",
        "--batch-size",
        "16",
    ),
    *(
        "--stage1-epochs",
        "2",
        "--stage2-epochs",
        "3",
        "--stage2-unfreeze",
        "2",
        "--augment-shift",
        "0.1",
        "--views",
        "2",
    ),
    *("--augment-mixup", "0.2", "--checkpoint-minutes", "0.004", "--run", "killed", "--quiet"),
)

# One process that is warm before the clock starts: what is killed is training, not the import of PyTorch. It forks a
# child per attempt.
SERVER = """
import os, sys
from pathlib import Path
import torch, timm, torchvision, onnxruntime, onnxscript, sklearn.datasets
import toolkit.finetune.stage, toolkit.report
from toolkit.cli.main import main

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            main(line.split())
        except SystemExit as stop:
            os._exit(stop.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(70)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Server:
    """Starts commands in a folder, each in a fresh fork of a warm process."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "TOOLKIT_CACHE": str(folder / "cache")}
        self.log = (folder / "log.txt").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def start(self, *arguments: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(arguments) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def wait(self) -> int:
        while True:
            line = self._line()
            if line.lstrip("-").isdigit():
                return int(line)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    made = Server(tmp_path)
    yield made
    made.close()


def history(run: RunFolder) -> list[dict[str, str]]:
    """Return the history without the seconds, which no two runs share."""
    with run.history_file.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def phase(run: RunFolder) -> str:
    """Say what a run was doing when it was killed, from what it has written."""
    if run.record_file.exists():
        return "finished"
    if run.model_file.exists():
        return "evaluation"
    pointer = run.checkpoints / "latest.json"
    if pointer.exists():
        return "stage 2" if '"stage": 2' in pointer.read_text() else "stage 1"
    return "before the first checkpoint"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
def test_killed_at_random_moments_it_ends_as_if_it_had_never_been(server: Server, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "artifacts" / "killed")
    started = time.monotonic()
    server.start("finetune", *ARGUMENTS)
    assert server.wait() == 0, (tmp_path / "log.txt").read_text()
    whole = time.monotonic() - started
    expected, rows = sha256_file(run.model_file), history(run)
    evaluation = run.evaluation_file.read_bytes()
    moments = random.Random(0)
    kills, phases = 0, set()
    while kills < KILLS:
        shutil.rmtree(run.path)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        child = server.start("finetune", *ARGUMENTS)
        while not run.record_file.exists():
            if kills == 0:
                # Once for certain before there is a checkpoint; how early chance comes depends on what else the machine
                # does.
                begun = time.monotonic()
                while not run.recipe_file.exists() and time.monotonic() - begun < whole:
                    time.sleep(0.01)
            else:
                time.sleep(moments.uniform(0.02, 0.6 * whole))
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(child, signal.SIGKILL)
            code = server.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
            kills += 1
            phases.add(phase(run))
            if run.record_file.exists():
                # Killed while its pictures were drawn: the run is whole, and 'toolkit report' draws them again (and
                # finds no benchmark to report).
                server.start("report", "--run", "killed")
                assert server.wait() == 2, (tmp_path / "log.txt").read_text()
                break
            again = ("--resume", "--run", "killed", "--quiet") if run.recipe_file.exists() else ARGUMENTS
            child = server.start("finetune", *again)
            if kills >= KILLS:
                assert server.wait() == 0, (tmp_path / "log.txt").read_text()
                break
        assert sha256_file(run.model_file) == expected
        assert history(run) == rows
        assert run.evaluation_file.read_bytes() == evaluation
        assert not run.checkpoints.exists()
        assert sorted(path.name for path in run.path.iterdir() if path.name.startswith(".")) == []
    assert {"before the first checkpoint", "stage 2"} <= phases


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    environment = {**os.environ, "TOOLKIT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "toolkit.cli.main", "finetune"]
    process = subprocess.Popen(
        [*command, *ARGUMENTS, "--stage2-epochs", "400"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = RunFolder(tmp_path / "artifacts" / "killed")
    while not run.history_file.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "and saved. Go on with 'toolkit finetune --resume --run killed'." in said
    assert "Traceback" not in said
    assert (run.checkpoints / "latest.json").exists()
    refused = subprocess.run(
        [*command, "--resume", "--stage2-epochs", "3"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "--resume goes on with a run's own recipe" in refused.stderr


def test_without_an_unfinished_run_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "toolkit.cli.main", "finetune", "--resume"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "toolkit: there is no unfinished run in artifacts: start one with 'toolkit finetune'.\n"
