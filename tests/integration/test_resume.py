"""A run that is killed at any moment goes on and ends as if it had never been killed: real processes, real kills.

Moments are counted in what the process does, its files or its seconds of CPU, never in seconds on the clock: how far it
comes in these depends on what else the machine does.
"""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Command, Commands, run_python

from toolkit.files import sha256_file
from toolkit.run_folder import RunFolder

pytestmark = pytest.mark.slow

KILLS = (9, 8, 8)
"""25 in parts, so that several processes can share them."""
ARGUMENTS = (
    *("--recipe", "digits", "--backbone", "timm:test_efficientnet", "--weights", "none", "--image-size", "32"),
    *("--train-limit", "300", "--test-limit", "60", "--threads", "1"),
    *("--batch-size", "16", "--stage1-epochs", "2", "--stage2-epochs", "3", "--stage2-unfreeze", "2"),
    *("--augment-shift", "0.1", "--views", "2", "--augment-mixup", "0.2", "--checkpoint-minutes", "0.004"),
    *("--augment-crop", "0.5", "--randaugment", "1", "--augment-erase", "0.3", "--refresh-views", "0.5"),
    *("--augment-cutmix", "0.5", "--ema", "0.9", "--patience", "2", "--stage2-layer-decay", "0.8"),
    *("--sam-rho", "0.05", "--dropout", "0.1", "--train-bn", "--bn-reestimate", "4", "--flip-test"),
    *("--run", "killed", "--quiet"),
)

KILLED = (-signal.SIGKILL, -signal.SIGPROF) if sys.platform != "win32" else ()

AT_CPU_SECONDS = """
import signal
signal.setitimer(signal.ITIMER_PROF, {seconds})  # nobody handles it: it ends the process as abruptly as SIGKILL
"""
AT_A_FILE = """
import os, signal
move = os.replace
count = 0

def watched(source, target, **options):
    global count
    count += 1
    content = b""
    if os.path.isfile(source):  # artifacts/latest is a link to a folder
        with open(source, "rb") as file:
            content = file.read()
    chosen = {chosen}
    if chosen and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    move(source, target, **options)
    if chosen:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = watched
"""


def at_file(number: int, *, before: bool) -> str:
    """Kill just before or after the process puts its file of this number in place."""
    return AT_A_FILE.format(chosen=f"count == {number}", before=before)


def at_name(name: str, content: str = "") -> str:
    """Kill once a file of this name, with this content, is in place."""
    return AT_A_FILE.format(
        chosen=f"os.path.basename(target) == {name!r} and {content.encode()!r} in content", before=False
    )


@pytest.fixture
def commands() -> Iterator[Commands]:
    if not hasattr(os, "fork"):
        pytest.skip("this system has neither fork nor SIGKILL")
    commands = Commands()
    yield commands
    commands.close()


@dataclass(frozen=True)
class Undisturbed:
    """What a run that nobody kills leaves behind."""

    weights: str
    history: list[dict[str, str]]
    evaluation: bytes
    review: bytes
    cpu_seconds: float

    def check(self, run: RunFolder) -> None:
        assert sha256_file(run.model_file) == self.weights
        assert history(run) == self.history
        assert run.evaluation_file.read_bytes() == self.evaluation
        assert run.review_file.read_bytes() == self.review
        review = run.review()
        assert review is not None
        assert all(image.thumbnail and (run.path / image.thumbnail).is_file() for image in review.mistakes)
        assert sorted(path.name for path in run.path.iterdir() if path.name.startswith(".")) == []
        # Of killed processes too: new views are nobody else's.
        assert list((run.path.parents[1] / "cache").rglob("*.part")) == []


@pytest.fixture
def undisturbed(commands: Commands, tmp_path: Path) -> Undisturbed:
    """A run in ``artifacts/killed``, removed again with what it kept."""
    done = commands.run(tmp_path, "finetune", *ARGUMENTS, TOOLKIT_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    run = RunFolder(tmp_path / "artifacts" / "killed")
    whole = Undisturbed(
        sha256_file(run.model_file),
        history(run),
        run.evaluation_file.read_bytes(),
        run.review_file.read_bytes(),
        commands.cpu_seconds,
    )
    forget(run)
    return whole


def forget(run: RunFolder) -> None:
    shutil.rmtree(run.path)
    (run.path.parent / "latest").unlink()
    shutil.rmtree(run.path.parents[1] / "cache", ignore_errors=True)


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


def kill_and_go_on(commands: Commands, run: RunFolder, moments: Iterable[str]) -> list[str]:
    """Start a run and kill it at one moment after the other; return what it was doing each time.

    It ends when the moments do, or when it reaches its end before the next one.
    """
    phases = []
    folder, environment = run.path.parents[1], {"TOOLKIT_CACHE": str(run.path.parents[1] / "cache")}
    for moment in (*moments, ""):
        again = ("--resume", "--run", "killed", "--quiet") if run.recipe_file.exists() else ARGUMENTS
        commands.start(Command(folder, ("finetune", *again), environment, moment))
        done = commands.wait()
        if done.returncode == 0:
            assert not run.checkpoints.exists()
            break
        assert moment, done.stderr
        assert done.returncode in KILLED, done.stderr
        phases.append(phase(run))
        if run.record_file.exists():
            # The run is whole, and the one that the next command takes. 'toolkit report' draws its pictures (and finds
            # no benchmark to report).
            assert commands.run(folder, "report", "--run", "killed").returncode == 2
            assert all(picture.is_file() for picture in run.pictures)
            assert (run.path.parent / "latest").resolve() == run.path.resolve()
            break
    return phases


def test_killed_in_each_phase_it_ends_as_if_it_had_never_been(
    commands: Commands, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "artifacts" / "killed")
    moments = {
        "before the first checkpoint": at_name("recipe.toml"),
        "stage 1": at_name("latest.json", '"stage": 1'),
        "stage 2": at_name("latest.json", '"stage": 2'),
        "evaluation": at_name("model.safetensors"),
        "finished": at_name("run.json"),
    }
    assert kill_and_go_on(commands, run, moments.values()) == list(moments)
    undisturbed.check(run)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("seed", "planned"), list(enumerate(KILLS)))
def test_killed_at_random_moments_it_ends_as_if_it_had_never_been(
    commands: Commands, undisturbed: Undisturbed, tmp_path: Path, seed: int, planned: int
) -> None:
    run = RunFolder(tmp_path / "artifacts" / "killed")
    draw = random.Random(seed)

    def moments(left: int) -> Iterator[str]:
        for _ in range(left):
            if draw.random() < 0.5:
                yield AT_CPU_SECONDS.format(seconds=draw.uniform(0.02, 0.6) * undisturbed.cpu_seconds)
            else:
                yield at_file(draw.randint(1, 12), before=draw.random() < 0.5)

    kills = 0
    while kills < planned:
        kills += len(kill_and_go_on(commands, run, moments(planned - kills)))
        undisturbed.check(run)
        forget(run)


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
    _, said = process.communicate()
    assert process.returncode == 130, said
    # While new views are made there is nothing to save.
    assert re.search(r"(and saved|stopped by Ctrl-C)\. Go on with 'toolkit finetune --resume --run killed'\.", said)
    assert "Traceback" not in said
    assert (run.checkpoints / "latest.json").exists()
    refused = run_python(tmp_path, *command[1:], "--resume", "--stage2-epochs", "3")
    assert refused.returncode == 2
    assert "--resume goes on with a run's own recipe" in refused.stderr


def test_without_an_unfinished_run_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    done = run_python(tmp_path, "-m", "toolkit.cli.main", "finetune", "--resume")
    assert done.returncode == 2
    assert done.stderr == "toolkit: there is no unfinished run in artifacts: start one with 'toolkit finetune'.\n"
