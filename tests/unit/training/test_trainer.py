from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import STILL, Run
from tiny_training import LABELS, tiny_recipe, tiny_setting, tiny_split

from toolkit.data import Dataset
from toolkit.errors import RecipeError, TrainingError
from toolkit.progress import Bar
from toolkit.training import best_weights
from toolkit.training.batch_sources import BatchSource, EpochOrder
from toolkit.training.group import Group
from toolkit.training.trainer import Trainer, order_of_epoch, share_of_order


def test_both_stages_are_trained_and_the_loss_falls() -> None:
    run = Run(stage2__epochs=4)
    first, second = run.trainer.run()
    assert (first.stage, first.epochs, first.trained) == (1, 1, ("fc",))
    assert (second.stage, second.epochs, second.trained) == (2, 4, ("body", "fc"))
    assert first.trainable_parameters == 6 * 2 + 2
    assert [(epoch.stage, epoch.epoch) for epoch in run.state.history] == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert run.state.history[-1].train_loss < run.state.history[0].train_loss
    assert run.state.history[0].backbone_lr == 0.0
    assert run.state.history[-1].backbone_lr == 0.01
    assert run.state.best.accuracy == max(epoch.validation_accuracy for epoch in run.state.history)
    assert (run.state.stage, run.state.epoch, run.state.step) == (3, 1, 0)
    assert first.seconds > 0


def test_the_observer_is_told_of_every_step_and_the_history_adds_them_up() -> None:
    run = Run()
    run.trainer.run()
    assert [(step.stage, step.epoch, step.number) for step in run.steps] == [
        (stage, epoch, number) for stage, epoch in ((1, 1), (2, 1), (2, 2)) for number in range(1, 6)
    ]
    last = [step for step in run.steps if (step.stage, step.epoch) == (2, 2)]
    assert [step.images for step in last] == [4, 4, 4, 4, 2]
    assert run.state.history[-1].train_loss == pytest.approx(sum(step.loss * step.images for step in last) / 18)
    assert run.state.history[-1].train_accuracy == pytest.approx(sum(step.right for step in last) / 18)
    assert last[0].rates == (0.1, 0.01)


def test_frozen_weights_and_statistics_stay_as_they_were() -> None:
    run = Run()
    before = run.weights()
    run.trainer.run()
    after = run.weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".")[0] for name in changed} == {"body", "fc"}
    assert not [name for name in changed if "running" in name]


@pytest.mark.parametrize(
    ("changes", "place", "flags"),
    [
        (
            {"stage1__head_lr": 1e38, "train__batch_size": 1},
            r"stage 1, epoch 1, step \d+ \(learning rates 1e\+38\)",
            "--stage1-head-lr",
        ),
        (
            {"stage1__epochs": 0, "stage2__backbone_lr": 1e38},
            r"stage 2, epoch 1, step \d \(learning rates 0\.1, 1e\+38\)",
            "--stage2-head-lr or --stage2-backbone-lr",
        ),
    ],
)
def test_a_loss_that_is_not_finite_is_named_with_its_place_and_rates(
    changes: dict[str, Any], place: str, flags: str
) -> None:
    run = Run(**changes)
    refused = rf"the loss is (nan|inf) at {place}: training has diverged\. Lower the rates, e\.g\. with {flags}\.$"
    with pytest.raises(TrainingError, match=refused):
        run.trainer.run()
    assert not np.isfinite(run.steps[-1].loss)


def test_the_log_names_stage_and_epoch() -> None:
    run = Run()
    run.trainer.run()
    assert run.listening.bars == ["stage 1 epoch 1/1", "stage 2 epoch 1/2", "stage 2 epoch 2/2"]
    assert [line.partition(":")[0] for line in run.listening.lines] == run.listening.bars


def test_a_last_batch_of_one_image_is_left_out_where_batch_norm_is_trained() -> None:
    setting = tiny_setting(tiny_recipe(train__batch_size=17, train__train_bn=True))
    assert len(order_of_epoch(setting, 1, 1).indices) == 17
    assert len(order_of_epoch(tiny_setting(tiny_recipe(train__batch_size=17)), 1, 1).indices) == 18
    one_image = Dataset("made", LABELS, {"train": tiny_split("train", 1)})
    with pytest.raises(RecipeError, match="--train-bn needs at least two images per step"):
        order_of_epoch(replace(setting, dataset=one_image), 1, 1)


def test_so_is_a_last_batch_of_one_image_for_each_of_several_processes() -> None:
    two, three = Group(rank=1, world=2), Group(rank=1, world=3)
    setting = replace(tiny_setting(tiny_recipe(train__batch_size=4, train__train_bn=True)), group=two)
    order = order_of_epoch(setting, 1, 1)
    # 18 images, of which the last two would be one for each.
    assert len(order.indices) == 16
    assert np.bincount(order.indices % 2).tolist() == [8, 8]
    assert {len(images) for images in share_of_order(order, two).batches(0)} == {2}
    frozen = replace(setting, recipe=tiny_recipe(train__batch_size=4))
    assert len(order_of_epoch(frozen, 1, 1).indices) == 18
    six = replace(setting, recipe=tiny_recipe(train__batch_size=12, train__train_bn=True), group=three)
    assert len(order_of_epoch(six, 1, 1).indices) == 18


@pytest.mark.parametrize(("batch", "world", "of_each"), [(1, 1, ""), (2, 2, " of each process")])
def test_batches_of_one_image_each_are_refused_where_batch_norm_is_trained(
    batch: int, world: int, of_each: str
) -> None:
    recipe = tiny_recipe(train__batch_size=batch, train__train_bn=True)
    setting = replace(tiny_setting(recipe), group=Group(world=world))
    with pytest.raises(RecipeError, match=f"at least two images per step{of_each}: raise --batch-size, or leave"):
        order_of_epoch(setting, 1, 1)
    assert len(order_of_epoch(replace(setting, recipe=tiny_recipe(train__batch_size=batch)), 1, 1).indices) == 18


def test_processes_share_every_batch() -> None:
    order = EpochOrder(np.array([2, 0, 5, 1, 4, 3], np.int64), 4, (0, 1, 1))
    shares = [share_of_order(order, Group(rank=rank, world=2)) for rank in range(2)]
    assert [(2 * share.indices + rank).tolist() for rank, share in enumerate(shares)] == [[2, 0, 4], [5, 1, 3]]
    assert {share.batch_size for share in shares} == {2}
    assert share_of_order(order, Group()) is order


def test_the_last_epoch_is_kept_where_there_are_few_validation_images() -> None:
    few, asked = Run(stage2__epochs=3), Run(stage2__epochs=3, train__keep="best")
    few.trainer.run()
    asked.trainer.run()
    assert (few.state.best.stage, few.state.best.epoch) == (2, 3)
    best = max(asked.state.history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))
    assert (asked.state.best.stage, asked.state.best.epoch) == (best.stage, best.epoch)


def test_patience_ends_a_stage_that_gets_no_better() -> None:
    run = Run(stage1__epochs=5, stage2__epochs=6, train__patience=2, **STILL)
    first, second = run.trainer.run()
    assert (first.epochs, second.epochs) == (3, 3)
    assert [(epoch.stage, epoch.epoch) for epoch in run.state.history] == [
        (stage, epoch) for stage in (1, 2) for epoch in (1, 2, 3)
    ]
    assert (
        "stage 2 ends after epoch 3 of 6: the last 2 epochs have been no better on the validation images"
        in run.listening.lines
    )


def test_patience_lets_a_stage_that_gets_better_end_as_it_would() -> None:
    run = Run(stage2__epochs=4, train__patience=1, stage2__backbone_lr=0.001)
    _, second = run.trainer.run()
    losses = [epoch.validation_loss for epoch in run.state.history if epoch.stage == 2]
    assert losses == sorted(losses, reverse=True)
    assert second.epochs == 4
    assert not [line for line in run.listening.lines if "no better" in line]


def test_each_block_has_its_rate() -> None:
    run = Run(stage1__epochs=0, stage2__unfreeze=2, stage2__layer_decay=0.25)
    before = run.weights()
    run.trainer.run()
    assert run.steps[0].rates == (0.1, 0.01, 0.0025)
    assert run.state.history[0].backbone_lr == 0.01
    assert not torch.equal(run.weights()["stem.0.weight"], before["stem.0.weight"])


def test_what_is_left_out_at_random_is_there_when_it_is_looked_at() -> None:
    plain, run = (Run(stage2__epochs=1, train__drop_path=rate, train__dropout=rate, **STILL) for rate in (1e-9, 0.6))
    for each in (plain, run):
        each.trainer.run()
    # No weight moves, so that only what is left out can differ.
    assert run.steps[-1].loss != plain.steps[-1].loss
    assert [epoch.validation_loss for epoch in run.state.history] == [
        epoch.validation_loss for epoch in plain.state.history
    ]


@pytest.mark.usefixtures("in_torch", "own_cache")
@pytest.mark.parametrize("cache", [True, False])
def test_a_third_stage_cuts_deeper_in_the_last_epochs(cache: bool) -> None:
    # With all blocks trained nothing is frozen, so the third stage takes a part of the first one.
    run = Run(cache__use=cache, stage3__epochs=2, stage3__unfreeze=["stem.1", "body"], stage3__schedule="cosine")
    before = run.weights()
    stages = run.trainer.run()
    run.trainer._data.close()
    assert [(stage.stage, stage.epochs, stage.trained) for stage in stages] == [
        (1, 1, ("fc",)),
        (2, 2, ("body", "fc")),
        (3, 2, ("stem.1", "body", "fc")),
    ]
    assert (run.state.stage, run.state.best.stage) == (4, 3)
    after = run.weights()
    assert torch.equal(before["stem.0.weight"], after["stem.0.weight"])
    assert not torch.equal(before["stem.1.weight"], after["stem.1.weight"])
    assert [saved.model["stem.1.weight"].tolist() for saved in run.saved if saved.stage < 3] == [
        before["stem.1.weight"].tolist()
    ] * 4


@pytest.mark.parametrize(("accuracies", "kept"), [((0.5, 0.9, 0.7), (2, 2)), ((0.8, 0.9, 0.7), (1, 1))])
def test_enough_validation_images_choose_between_the_ends_of_stages(
    monkeypatch: pytest.MonkeyPatch, accuracies: tuple[float, ...], kept: tuple[int, int]
) -> None:
    monkeypatch.setattr(best_weights, "ENOUGH_IMAGES", 6)
    said = iter(accuracies)

    def validate(self: Trainer, batches: BatchSource, bar: Bar) -> tuple[float, float, float]:
        accuracy = next(said)
        return 1.0, accuracy, accuracy

    monkeypatch.setattr(Trainer, "_validate", validate)
    run = Run(stage1__schedule="cosine", stage2__schedule="one_cycle")
    run.finish()
    assert (run.state.best.stage, run.state.best.epoch) == kept
