"""What a person sees on a real terminal, and what a pipe gets: the command runs behind a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

QUICK = (
    *("finetune", "--recipe", "digits", "--image-size", "32", "--train-limit", "60", "--test-limit", "30"),
    *("--stage1-epochs", "1", "--stage2-epochs", "0", "--threads", "1"),
)


def on_a_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command whose standard error is a terminal; return its exit code and what it wrote there."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit.cli.main", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=slave,
        env=environment,
    )
    os.close(slave)
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux answers so once the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(master)
    return process.wait(), b"".join(parts).decode("utf-8", "replace")


@pytest.mark.slow
def test_a_terminal_gets_bars_with_rate_loss_accuracy_and_time_left(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, *QUICK)
    assert code == 0, shown
    assert "stage 1 epoch 1/1" in shown
    assert "img/s" in shown
    assert "loss " in shown
    assert "accuracy " in shown
    assert "━" in shown


@pytest.mark.slow
def test_quiet_says_nothing_on_a_terminal_either(tmp_path: Path) -> None:
    assert on_a_terminal(tmp_path, *QUICK, "--quiet") == (0, "")
