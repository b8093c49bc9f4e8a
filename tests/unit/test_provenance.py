from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import toolkit
from toolkit import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_it_says_which_versions_and_which_machine() -> None:
    collected = provenance.collect()
    assert collected.toolkit == toolkit.__version__
    assert collected.packages["numpy"] == np.__version__
    assert collected.hardware.cores >= 1
    assert collected.hardware.processor
    assert collected.created.endswith("+00:00")


def test_a_commit_is_marked_when_files_differ_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert provenance.git_commit(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert provenance.git_commit(tmp_path) == f"{head}-dirty"


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit(tmp_path) is None


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit(tmp_path) is None


def test_a_gpu_is_named_as_nvidia_smi_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA Test 9000'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert provenance.hardware().gpu == "NVIDIA Test 9000"


def test_a_driver_that_does_not_answer_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert provenance.hardware().gpu is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_peak_memory_grows_with_what_was_used() -> None:
    # In a process of its own: this one may have used gigabytes before, and would have to use more.
    program = (
        "import numpy as np\n"
        "from toolkit.provenance import peak_memory_bytes\n"
        "before = peak_memory_bytes()\n"
        "block = np.ones(before + 50 * 2**20, np.uint8)\n"
        "print(before, peak_memory_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 2**20
    assert after >= before + 50 * 2**20


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(provenance.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), (2.0, 2), (1.5, 2), (0.25, 1), (3.01, 4), (7.0, 7), (8.0, 8), (64.0, 8)]
)
def test_the_quota_of_a_container_is_rounded_up_and_never_more_than_there_are(
    eight_cores: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    eight_cores.setattr(provenance, "cpu_quota", lambda: quota)
    assert provenance.available_cores() == cores
    assert provenance.default_threads() == cores
    assert provenance.hardware().cores == cores


@pytest.mark.parametrize(
    ("value", "threads"),
    [
        ("2", 2),
        ("3,2", 3),
        (" 4 ", 4),
        ("64", 8),
        ("0", 8),
        ("", 8),
        ("-1", 8),
        ("many", 8),
        ("9" * 5000, 8),
        ("02", 2),
    ],
)
def test_omp_num_threads_is_heeded_where_it_is_fewer(eight_cores: pytest.MonkeyPatch, value: str, threads: int) -> None:
    eight_cores.setattr(provenance, "cpu_quota", lambda: None)
    eight_cores.setenv("OMP_NUM_THREADS", value)
    assert provenance.default_threads() == threads
    assert provenance.available_cores() == 8
