from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_training import small_run_recipe

from toolkit.api import train
from toolkit.errors import TrackerError
from toolkit.training.history import read_history


def test_a_run_that_is_started_from_python_has_pictures(tmp_path: Path) -> None:
    losses: list[float] = []
    run = train(small_run_recipe(), name="run", root=tmp_path, on_step=lambda step: losses.append(step.loss))
    assert run.record().name == "run"
    assert losses
    for picture in ("learning_curves.png", "confusion.png"):
        with Image.open(run.path / picture) as opened:
            assert min(opened.size) > 300


def test_under_torchrun_only_the_first_process_draws_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run = train(small_run_recipe(stage2__epochs=0), name="run", root=tmp_path, trackers=["tensorboard"])
    assert list(run.path.glob("*.png")) == []
    assert not (run.path / "tensorboard").exists()


def test_a_run_is_logged_to_a_tracker_that_was_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(small_run_recipe(), name="run", root=tmp_path, trackers=["tensorboard"])
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    epochs = read_history(run.history_file)
    for name in ("train/loss", "validation/accuracy"):
        values = [getattr(epoch, name.replace("/", "_")) for epoch in epochs]
        assert [event.step for event in events.Scalars(name)] == [1, 2]
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values, rel=1e-5)
    assert events.Scalars("test/accuracy")[0].value == pytest.approx(run.evaluation().top1)
    assert sorted(events.Tags()["images"]) == ["confusion", "learning_curves"]


def test_a_tracker_that_there_is_not_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="there is no tracker 'wandb'"):
        train(small_run_recipe(), name="run", root=tmp_path, trackers=["wandb"])
    assert list(tmp_path.iterdir()) == []
