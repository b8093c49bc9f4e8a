"""What the tests of the commands share: a call in this process, a folder to be in, keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(autouse=True)
def no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what a command prints not depend on how busy the machine is."""
    monkeypatch.setattr("toolkit.progress.lines.FIRST_SECONDS", 3600)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def key(run: Run, here: Path) -> Path:
    """Where 'toolkit keygen' has written ours.private.pem and ours.public.pem.

    The folder of the test is the current one.
    """
    pytest.importorskip("cryptography", reason="the extra 'sign' is not installed")
    code, out, _ = run("keygen", "ours")
    assert code == 0
    assert "ours.private.pem  keep it secret" in out
    return here / "ours.public.pem"
