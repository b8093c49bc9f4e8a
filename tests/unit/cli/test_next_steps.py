from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.cli.main import COMMANDS
from toolkit.cli.next_steps import NEXT, after, closing_line, predict_command
from toolkit.run_folder import ARTIFACTS, RunFolder


def test_one_line_with_what_was_written_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    closing_line(Path("a"), Path("b/c"), then="toolkit export --run a")
    closing_line(Path("a"))
    closing_line(Path("b/c"), Path("b/d"), Path("b/e"))
    assert capsys.readouterr().out == "wrote a, b/c; next: toolkit export --run a\nwrote a\nwrote c, d and e in b\n"


def test_the_stages_lead_to_a_prediction() -> None:
    run = RunFolder(ARTIFACTS / "mine")
    stage, steps = "finetune", []
    while stage in NEXT:
        steps.append(after(stage, run))
        stage = NEXT[stage]
    assert steps == ["toolkit export --run mine", "toolkit verify --run mine", "toolkit bench --run mine"]
    assert after(stage, run) == after("report", run) == "toolkit predict artifacts/mine IMAGES"
    assert set(NEXT) | set(NEXT.values()) <= set(COMMANDS)


def test_a_folder_with_a_blank_can_be_pasted_into_a_shell() -> None:
    assert predict_command("my runs/a") == "toolkit predict 'my runs/a' IMAGES"
