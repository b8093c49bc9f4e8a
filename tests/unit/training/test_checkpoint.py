from __future__ import annotations

from pathlib import Path

import pytest
import torch

from toolkit.errors import FileWriteError, RunError
from toolkit.run_folder import SecondStageTrial, SolvedHead
from toolkit.training.checkpoint import LATEST, State, load_checkpoint, save_checkpoint
from toolkit.training.history import Epoch


def epoch(accuracy: float, loss: float = 1.0, number: int = 1) -> Epoch:
    return Epoch(2, number, 0.5, 0.8, loss, accuracy, 0.1, 0.01, 3.25)


def state() -> State:
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.AdamW([{"params": [parameter], "lr": 0.1}])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    made = State(
        stage=2,
        epoch=3,
        step=17,
        loss_sum=1.1,
        right=40,
        seen=64,
        epoch_seconds=2.5,
        stage_seconds={1: 9.0},
        seconds=12.0,
    )
    made.history.append(epoch(0.9))
    made.model = {"fc.weight": parameter.detach()}
    made.optimizer = optimizer.state_dict()
    made.identity = {"recipe": "abc"}
    made.depthwise = [{"shape": {"channels": 6, "size": (4, 4)}, "way": "products"}]
    made.labels = {"issues": {"accuracy": 0.97}, "places": [("test", 6)], "not_looked": None}
    made.best.offer(made.history[0], made.model)
    return made


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written = state()
    save_checkpoint(tmp_path, written)
    read = load_checkpoint(tmp_path)
    assert read is not None
    for name in (
        "stage",
        "epoch",
        "step",
        "loss_sum",
        "right",
        "seen",
        "epoch_seconds",
        "stage_seconds",
        "seconds",
        "history",
        "identity",
        "depthwise",
        "labels",
    ):
        assert getattr(read, name) == getattr(written, name)
    assert torch.equal(read.model["fc.weight"], written.model["fc.weight"])
    assert read.best.weights is not None
    assert torch.equal(read.best.weights["fc.weight"], written.model["fc.weight"])
    moments = read.optimizer["state"][0]
    assert all(torch.equal(moments[name], value) for name, value in written.optimizer["state"][0].items())


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    made = state()
    save_checkpoint(tmp_path, made)
    made.step = 18
    save_checkpoint(tmp_path, made)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LATEST, "stage2-epoch3-step18.pt"]


def test_none_is_no_error(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoints") is None


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state())
    path = next(tmp_path.glob("*.pt"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        RunError, match=r"is damaged: its SHA-256 is not the one in latest\.json\. Remove .* to train again"
    ):
        load_checkpoint(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state())
    next(tmp_path.glob("*.pt")).unlink()
    with pytest.raises(RunError, match=r"stage2-epoch3-step17\.pt cannot be read"):
        load_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = state()
    save_checkpoint(tmp_path, made)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    made.step = 99
    with pytest.raises(FileWriteError, match="No space left"):
        save_checkpoint(tmp_path, made)
    monkeypatch.undo()
    read = load_checkpoint(tmp_path)
    assert read is not None
    assert read.step == 17


def test_the_end_of_an_epoch_is_the_start_of_the_next() -> None:
    at = state()
    done = epoch(0.8, number=3)
    at.end_epoch(done)
    assert (at.stage, at.epoch, at.step, at.loss_sum, at.right, at.seen, at.epoch_seconds) == (2, 4, 0, 0.0, 0, 0, 0.0)
    assert at.history[-1] is done
    assert at.stage_seconds == {1: 9.0, 2: 3.25}


def test_an_average_and_the_wait_for_a_better_epoch_come_back(tmp_path: Path) -> None:
    made = state()
    made.average, made.averaged = {"fc.weight": torch.randn(3, 2)}, 9
    made.wait_for_better(0.8, 0.5)
    made.wait_for_better(0.8, 0.6)
    save_checkpoint(tmp_path, made)
    read = load_checkpoint(tmp_path)
    assert read is not None
    assert torch.equal(read.average["fc.weight"], made.average["fc.weight"])
    assert (read.averaged, read.peak, read.waited) == (9, (0.8, -0.5), 1)


def test_the_accuracy_is_waited_for_and_of_equal_ones_the_lower_loss() -> None:
    at = state()
    waited = []
    for score, loss in ((0.5, 1.0), (0.5, 1.0), (0.4, 0.1), (0.5, 0.9), (0.6, 3.0), (float("nan"), 0.1)):
        at.wait_for_better(score, loss)
        waited.append(at.waited)
    assert waited == [0, 1, 2, 0, 0, 1]


def test_of_the_next_stage_nothing_is_known() -> None:
    at = state()
    at.average, at.averaged = {"fc.weight": torch.ones(1)}, 3
    at.wait_for_better(0.5, 1.0)
    at.wait_for_better(0.5, 1.0)
    at.end_stage()
    assert (at.stage, at.epoch, at.averaged, at.peak, at.waited) == (3, 1, 0, (), 0)
    assert (at.average, at.optimizer, at.scheduler) == ({}, {}, {})


def test_how_the_head_was_solved_comes_back(tmp_path: Path) -> None:
    trial = SecondStageTrial(without=0.9, with_it=0.85, standard_error=0.02, trained=False)
    head = SolvedHead(images=40, views=4, l2=0.01, folds=5, accuracy=0.9, second_stage=trial)
    made = state()
    assert made.solved_head is None
    made.head = head.model_dump()
    save_checkpoint(tmp_path, made)
    read = load_checkpoint(tmp_path)
    assert read is not None
    assert read.solved_head == head
