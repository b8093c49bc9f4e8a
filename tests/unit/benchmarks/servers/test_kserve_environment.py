from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.servers import kserve_environment as module
from benchmarks.servers.kserve_environment import PACKAGES, python_with_kserve


class Pip:
    """Takes the calls, makes the environment's folder, and ends as it is told."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.calls: list[list[str]] = []

    def __call__(self, words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(words)
        return subprocess.CompletedProcess(words, self.code, "", "first\nno such package\n")


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(0)
    monkeypatch.setattr(module.subprocess, "run", pip)
    folder = tmp_path / "kserve"
    assert python_with_kserve(folder) == python_with_kserve(folder) == folder / "bin" / "python"
    assert [words[1:4] for words in pip.calls] == [["-m", "venv", pip.calls[0][3]], ["-m", "pip", "install"]]
    assert pip.calls[1][-len(PACKAGES) :] == list(PACKAGES)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("kept")
    with pytest.raises(BenchmarkError, match="holds something else"):
        python_with_kserve(tmp_path)
    assert (tmp_path / "theirs.txt").read_text() == "kept"


def test_it_lies_in_the_cache_where_no_folder_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(module.subprocess, "run", Pip(0))
    assert python_with_kserve().is_relative_to(tmp_path)


def test_what_cannot_be_installed_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(1)
    monkeypatch.setattr(module.subprocess, "run", pip)
    for _ in range(2):
        with pytest.raises(BenchmarkError, match="no environment with KServe could be made: no such package"):
            python_with_kserve(tmp_path / "kserve")
    assert len(pip.calls) == 2
