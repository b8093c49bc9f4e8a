from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_training import small_run_recipe

from toolkit.api import train


def test_a_run_that_is_started_from_python_has_pictures(tmp_path: Path) -> None:
    losses: list[float] = []
    run = train(small_run_recipe(), name="run", root=tmp_path, on_step=lambda step: losses.append(step.loss))
    assert run.record().name == "run"
    assert losses
    for picture in ("learning_curves.png", "confusion.png"):
        with Image.open(run.path / picture) as opened:
            assert min(opened.size) > 300


def test_under_torchrun_only_the_first_process_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = train(small_run_recipe(stage2__epochs=0), name="run", root=tmp_path)
    assert list(run.path.glob("*.png")) == []
