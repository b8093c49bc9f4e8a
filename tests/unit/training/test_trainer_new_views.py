"""New views for each epoch of the last stage."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import pytest
from signals import hear
from tiny_runs import Run, require_same_end, same

from toolkit.errors import FileWriteError
from toolkit.training.activations import extraction
from toolkit.training.activations.cache import CacheWriter
from toolkit.training.checkpoint import State

REFRESHED = {
    "cache__use": True,
    "cache__views": 2,
    "cache__refresh": 0.5,
    "augment__flip": True,
    "augment__shift": 0.3,
    "augment__crop": 0.4,
    "augment__erase": 0.5,
}


def refreshed(state: State | None = None, **changes: Any) -> Run:
    """Train with new views in each epoch of the last stage."""
    run = Run(state, **{**REFRESHED, **changes})
    with run.data:
        run.trainer.run()
    return run


@pytest.mark.usefixtures("in_torch", "own_cache")
class TestNewViews:
    def test_of_all_images_they_are_what_training_without_a_cache_sees(self) -> None:
        ours = refreshed(cache__refresh=1.0, stage1__epochs=0)
        kept = refreshed(cache__refresh=0.0, stage1__epochs=0)
        without = refreshed(cache__use=False, cache__refresh=0.0, stage1__epochs=0)
        losses = [[step.loss for step in run.steps] for run in (ours, without, kept)]
        assert len(losses[0]) == 2 * 5
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        assert losses[0] != pytest.approx(losses[2], rel=1e-2)

    def test_they_are_made_before_each_epoch_of_the_last_stage_and_gone_at_the_end(self, own_cache: Path) -> None:
        run = refreshed()
        assert [bar for bar in run.listening.bars if "epoch" in bar or "new" in bar] == [
            "stage 1 epoch 1/1",
            "frozen part, new views",
            "stage 2 epoch 1/2",
            "frozen part, new views",
            "stage 2 epoch 2/2",
        ]
        assert [folder.name.endswith(".part") for folder in own_cache.iterdir()] == [False, False]
        alone = refreshed(stage2__epochs=0, stage1__epochs=2)
        assert alone.listening.bars.count("frozen part, new views") == 2

    def test_the_last_stage_may_be_the_third(self) -> None:
        deeper = {"stage3__epochs": 2, "stage3__unfreeze": ["stem.1", "body"], "train__drop_path": 0.3}
        whole = refreshed(**deeper, train__checkpoint_minutes=1e-9)
        assert [bar for bar in whole.listening.bars if "epoch" in bar or "new" in bar][-4:] == [
            "frozen part, new views",
            "stage 3 epoch 1/2",
            "frozen part, new views",
            "stage 3 epoch 2/2",
        ]
        assert whole.listening.bars.count("frozen part, new views") == 2
        middle = next(state for state in whole.saved if (state.stage, state.epoch, state.step) == (3, 2, 3))
        require_same_end(refreshed(copy.deepcopy(middle), **deeper, train__checkpoint_minutes=1e-9), whole)

    def test_the_views_that_are_kept_are_those_of_a_run_without(self, own_cache: Path) -> None:
        refreshed()
        before = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.bin")}
        refreshed(cache__refresh=0.0)
        assert {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.bin")} == before

    @pytest.mark.parametrize("checkpoint", range(1, 15, 2))
    def test_from_any_checkpoint_it_ends_as_if_it_had_not_been_interrupted(self, checkpoint: int) -> None:
        changes = {"train__checkpoint_minutes": 1e-9, "augment__mixup": 0.4}
        whole = refreshed(**changes)
        rest = refreshed(copy.deepcopy(whole.saved[checkpoint]), **changes)
        require_same_end(rest, whole)

    def test_where_there_is_no_room_for_them_it_goes_on_with_those_that_are_kept_and_says_so_once(
        self, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []

        def free(folder: Path) -> int:
            asked.append(1)
            # Training images, validation images and the first new views fit.
            return extraction.SPARE_BYTES + (10**9 if len(asked) <= 3 else 0)

        with monkeypatch.context() as patch:
            patch.setattr(extraction, "free_bytes", free)
            run = refreshed(stage2__epochs=4, train__checkpoint_minutes=1e-9)
        said = [line for line in run.listening.lines if "new views" in line]
        assert len(said) == 1
        assert said[0].startswith(
            "training goes on without new views, on those that are kept: the activations of new views need 0.0 GB, and "
        )
        assert run.listening.bars.count("frozen part, new views") == 1
        assert run.state.fixed_views
        # A run that goes on stays with them, although there is room again.
        fallen_back = next(state for state in run.saved if state.fixed_views)
        assert (fallen_back.stage, fallen_back.epoch, fallen_back.step) == (2, 2, 1)
        rest = refreshed(copy.deepcopy(fallen_back), stage2__epochs=4)
        assert "frozen part, new views" not in rest.listening.bars
        assert same(rest.weights(), run.weights())

    def test_a_disk_that_fills_up_meanwhile_is_no_end_either(
        self, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append = CacheWriter.append

        def full(writer: CacheWriter, tensors: Any) -> None:
            append(writer, tensors)
            if writer._key.rows == 9:
                raise FileWriteError("cannot write activations: No space left on device.")

        with monkeypatch.context() as patch:
            patch.setattr(CacheWriter, "append", full)
            run = refreshed()
        assert [line for line in run.listening.lines if "new views" in line] == [
            "training goes on without new views, on those that are kept: cannot write activations: No space left on "
            "device."
        ]
        assert [folder.name.endswith(".part") for folder in own_cache.iterdir()] == [False, False]
        assert same(run.weights(), refreshed(cache__refresh=0.0).weights())

    def test_asked_to_stop_while_they_are_made_it_stops_at_once(self, own_cache: Path) -> None:
        run = Run(**REFRESHED)
        run.listening._at = "frozen part, new views"
        run.listening._act = lambda: hear(signal.SIGTERM)
        with run.data, pytest.raises(KeyboardInterrupt):
            run.trainer.run()
        assert (run.saved[-1].stage, run.saved[-1].epoch, run.saved[-1].step) == (2, 1, 0)
        assert {step.stage for step in run.steps} == {1}
        assert [folder.name.endswith(".part") for folder in own_cache.iterdir()] == [False, False]
        assert same(refreshed(copy.deepcopy(run.saved[-1])).weights(), refreshed().weights())

    def test_on_images_every_view_is_new_anyway(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extraction, "free_bytes", lambda folder: 0)
        run = refreshed()
        assert "frozen part, new views" not in run.listening.bars
        assert same(run.weights(), refreshed(cache__use=False, cache__refresh=0.0).weights())
