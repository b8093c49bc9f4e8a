"""The side of toolkit on a few pixels: its marks are the weights that would be kept, its answers the command's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.finetuners import toolkit_side
from benchmarks.finetuners.side import Task, images_to_judge, read_about, read_answers, read_marks, run_side
from benchmarks.finetuners.toolkit_side import StageEnded, answer, command, run_of, train
from toolkit.training.best_weights import Best
from toolkit.training.history import Epoch

FAST = ("--backbone", "timm:test_efficientnet", "--weights", "none", "--stage1-epochs", "1", "--stage2-epochs", "2")


def task(data: Path, output: Path, extra: tuple[str, ...] = FAST) -> Task:
    return Task(data, output, output / "unused", image_size=32, epochs=9, seed=4, threads=1, extra=extra)


def test_it_is_the_command_of_a_folder_with_what_is_passed_on_behind(tmp_path: Path) -> None:
    words = command(task(tmp_path / "data", tmp_path, ("--image-size", "96")))
    assert words[:3] == ["finetune", "--data", str(tmp_path / "data")]
    assert [words[at + 1] for at, word in enumerate(words) if word == "--image-size"] == ["32", "96"]
    assert "--recipe" not in words


@pytest.mark.slow
def test_it_marks_every_epoch_and_answers_as_the_command_does(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    asked = task(images, tmp_path)
    for step in ("train", "answer"):
        run_side(asked.words(step), train, answer)
    marks = read_marks(tmp_path)
    assert len(marks) == 3
    final = load_file(run_of(asked).model_file)
    kept = torch.load(marks[-1].weights, weights_only=True)
    assert kept
    assert all(torch.equal(tensor, final[name]) for name, tensor in kept.items())
    about, right = read_about(tmp_path), read_answers(tmp_path).right(images_to_judge(images))
    assert [len(each) for each in right] == [8, 8, 8]
    assert float(right[-1].mean()) == float(about["accuracy"])
    assert "1 + 2 epochs" in about["did"]


def test_a_command_that_fails_ends_the_side_as_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        toolkit_side.train(task(tmp_path / "nowhere", tmp_path), toolkit_side.Marks(tmp_path))
    assert end.value.code == 2
    assert "nowhere" in capsys.readouterr().err


def test_what_is_noted_is_what_would_be_kept_if_the_stage_ended() -> None:
    best, ended = Best(), StageEnded()
    offer = ended.watching(Best.offer)
    for stage, number, accuracy, ends in ((1, 1, 0.5, True), (2, 1, 0.4, False), (2, 2, 0.6, False), (2, 3, 0.7, True)):
        done = Epoch(stage, number, 1.0, 0.5, 1.0, accuracy, 0.1, 0.1, 1.0)
        offer(best, done, {"w": torch.tensor(accuracy)}, "best stage", ends_stage=ends)
        weights = (best.weights or {})["w"], (ended.best.weights or {})["w"]
        assert [round(float(each), 1) for each in weights] == {
            (1, 1): [0.5, 0.5],  # both
            (2, 1): [0.5, 0.5],  # worse than what the first stage ended with
            (2, 2): [0.5, 0.6],  # the stage goes on, and its epochs are not compared
            (2, 3): [0.7, 0.7],
        }[(stage, number)]
