"""Two processes that share every batch train what one process trains on the whole of it; gloo on the CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests import float64_training
from toolkit.recipe import load_recipe
from toolkit.run_folder import RunFolder
from toolkit.training import trainer
from toolkit.training.group import epoch_order
from toolkit.training.stage import finetune_run

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun's rendezvous is not tested on Windows"),
]

HANGS = 900
"""Seconds after which a job is given up: far more than it takes on the slowest machine."""
CHANGES = {
    "backbone.image_size": 32,
    "data.train_limit": 201,
    "data.test_limit": 40,
    "train.batch_size": 16,
    "train.threads": 1,
    "stage1.epochs": 2,
    "stage2.epochs": 2,
    "train.keep": "last",
    "stage1.optimizer": "sgd",
    "stage2.optimizer": "sgd",
    "stage2.head_lr": 0.01,
    "stage2.backbone_lr": 0.001,
    "train.precision": "float32",
    "cache.dtype": "float32",
}
FLAGS = [
    *("--image-size", "32", "--train-limit", "201", "--test-limit", "40", "--batch-size", "16", "--threads", "1"),
    *("--stage1-epochs", "2", "--stage2-epochs", "2", "--stage1-optimizer", "sgd", "--stage2-optimizer", "sgd"),
    *("--stage2-head-lr", "0.01", "--stage2-backbone-lr", "0.001", "--cache-dtype", "float32"),
    *("--keep", "last", "--precision", "float32"),
]


def torchrun(
    folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "--", "toolkit.cli.main")
) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    environment = {**os.environ, "TOOLKIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *program, "finetune", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_two_processes_train_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    program = ("--", float64_training.__file__)
    process = torchrun(
        tmp_path, "--recipe", "digits", "--run", "two", *FLAGS, "--class-weights", weights, program=program
    )
    said, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 0, said
    two = RunFolder(tmp_path / "artifacts" / "two")

    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "alone"))
    monkeypatch.setattr(trainer, "epoch_order", lambda seed, count, size, shards: epoch_order(seed, count, size, 2))
    recipe = load_recipe("digits").override({**CHANGES, "train.class_weights": weights})
    with float64_training.in_float64():
        one = finetune_run(recipe, name="one", root=tmp_path / "artifacts")

    ours, theirs = (safetensors.torch.load_file(run.model_file) for run in (two, one))
    for name, tensor in theirs.items():
        # Trained in float64 and written in float32: they may differ where the last bit is rounded.
        assert (ours[name].float() - tensor.float()).abs().max() <= 2e-7 * (1 + tensor.float().abs().max()), name
    assert two.evaluation().top1 == pytest.approx(one.evaluation().top1, abs=0.03)
    assert said.count("wrote artifacts/two; next: ") == 1
    assert two.record().data == one.record().data


def test_a_process_that_dies_ends_the_job_and_the_checkpoint_goes_on(tmp_path: Path) -> None:
    arguments = ["--recipe", "digits", "--run", "two", *FLAGS, "--stage2-epochs", "60"]
    process = torchrun(tmp_path, *arguments)
    run = RunFolder(tmp_path / "artifacts" / "two")
    pointer = run.checkpoints / "latest.json"
    while not (pointer.exists() and '"stage": 2' in pointer.read_text()) and process.poll() is None:
        time.sleep(0.1)
    os.kill(_worker(process.pid, rank=1), signal.SIGKILL)
    said, _ = process.communicate(timeout=HANGS)
    assert process.returncode != 0
    assert "rank" in said.lower()
    assert "SIGKILL" in said or "-9" in said
    assert pointer.exists()
    assert not run.record_file.exists()

    process = torchrun(tmp_path, "--resume", "--run", "two")
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if "stage 2 epoch" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANGS)
    assert "going on with two at stage 2, epoch" in said


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "--recipe", "digits", "--run", "odd", "--batch-size", "15")
    said, _ = process.communicate(timeout=HANGS)
    assert process.returncode != 0
    assert "a batch of 15 images cannot be shared by 2 processes: give a multiple of them." in said


def _worker(launcher: int, rank: int) -> int:
    """Return the process id of a rank, read from the environment of the launcher's children."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == launcher and f"RANK={rank}".encode() in environment:
            return int(entry.name)
    pytest.skip("this system does not show the environment of other processes")


def test_two_processes_solve_the_head_that_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = torchrun(
        tmp_path, "--recipe", "digits", "--run", "two", *FLAGS, "--stage1-solver", "lbfgs", "--stage2-epochs", "0"
    )
    said, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 0, said
    two = RunFolder(tmp_path / "artifacts" / "two")

    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "alone"))
    recipe = load_recipe("digits").override({**CHANGES, "stage1.solver": "lbfgs", "stage2.epochs": 0})
    one = finetune_run(recipe, name="one", root=tmp_path / "artifacts")
    assert two.record().solved_head == one.record().solved_head
    ours, theirs = (safetensors.torch.load_file(run.model_file) for run in (two, one))
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=1e-3, atol=1e-4), name
