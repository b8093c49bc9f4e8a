"""Environments are made once, whole or not at all."""

from __future__ import annotations

import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness import environments as module
from benchmarks.harness.environments import Environment
from benchmarks.harness.errors import BenchmarkError

OURS = Environment("Snails", "snails-1.0", ("snails==1.0", "shells"))


class Pip:
    """Takes the calls, makes nothing, and ends as it is told."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.calls: list[list[str]] = []

    def __call__(self, words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(words)
        return subprocess.CompletedProcess(words, self.code, "", "first\nno such package\n")


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(0)
    monkeypatch.setattr(module.subprocess, "run", pip)
    folder = tmp_path / "snails"
    assert OURS.python(folder) == OURS.python(folder) == folder / "bin" / "python"
    assert [words[1:4] for words in pip.calls] == [["-m", "venv", pip.calls[0][3]], ["-m", "pip", "install"]]
    assert pip.calls[1][-2:] == ["snails==1.0", "shells"]
    assert list(folder.rglob("*.pth")) == []


def test_one_beside_ours_sees_our_packages_behind_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "run", Pip(0))
    replace(OURS, beside_ours=True).python(tmp_path / "snails")
    (file,) = (tmp_path / "snails").rglob("*.pth")
    assert file.parent.name == Path(sysconfig.get_path("purelib")).name
    assert sysconfig.get_path("purelib") in file.read_text().splitlines()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("kept")
    with pytest.raises(BenchmarkError, match="holds something else"):
        OURS.python(tmp_path)
    assert (tmp_path / "theirs.txt").read_text() == "kept"


def test_it_lies_in_the_cache_where_no_folder_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(module.subprocess, "run", Pip(0))
    assert OURS.python() == tmp_path / "snails-1.0" / "bin" / "python"


def test_what_cannot_be_installed_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip(1)
    monkeypatch.setattr(module.subprocess, "run", pip)
    for _ in range(2):
        with pytest.raises(BenchmarkError, match="no environment with Snails could be made: no such package"):
            OURS.python(tmp_path / "snails")
    assert len(pip.calls) == 2
