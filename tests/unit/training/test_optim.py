from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.recipe import DistillRecipe, Recipe, StageRecipe, TrainRecipe
from toolkit.training.optim import TaughtLoss, class_weights, make_loss, make_optimizer, make_scheduler
from toolkit.training_choices import LOSSES, OPTIMIZERS, SCHEDULES, Choice


def stage(**changes: object) -> StageRecipe:
    return StageRecipe.model_validate(
        {"head_lr": 0.1, "backbone_lr": 0.01, "weight_decay": 0.5, "momentum": 0.8, **changes}
    )


def test_cross_entropy_with_smoothing_is_the_formula() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    targets = torch.tensor([0, 2])
    loss = make_loss(TrainRecipe.model_validate({"label_smoothing": 0.3}))(logits, targets)
    wanted = torch.full((2, 3), 0.1) + 0.7 * nn.functional.one_hot(targets, 3)
    torch.testing.assert_close(loss, -(wanted * logits.log_softmax(1)).sum(1).mean())


def test_mse_is_the_squared_distance_to_one_hot_targets() -> None:
    loss = make_loss(TrainRecipe.model_validate({"loss": "mse"}))(
        torch.tensor([[1.0, 0.0], [3.0, 1.0]]), torch.tensor([0, 1])
    )
    assert loss.item() == pytest.approx(9 / 4)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_each_group_has_its_own_rate(name: str, kind: type) -> None:
    head, block = [nn.Parameter(torch.ones(2))], [nn.Parameter(torch.ones(3))]
    optimizer = make_optimizer(stage(optimizer=name), head, block)
    assert type(optimizer) is kind
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5]
    if name == "sgd":
        assert optimizer.param_groups[0]["momentum"] == 0.8


def test_without_unfrozen_blocks_there_is_one_group() -> None:
    assert len(make_optimizer(stage(), [nn.Parameter(torch.ones(2))], []).param_groups) == 1


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_stages_have_usable_rates(schedule: str, steps: int) -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = make_optimizer(stage(), [parameter], [])
    scheduler = make_scheduler(optimizer, schedule, steps)
    for _ in range(steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 0.1
        parameter.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_table_is_least_where_the_logits_are_right(name: str) -> None:
    loss = make_loss(Recipe().override({"train.loss": name}).train)
    targets = torch.tensor([2, 0, 1])
    right = nn.functional.one_hot(targets, 3).float()
    assert loss(right, targets).shape == ()
    assert loss(right, targets) < loss(right.roll(1, dims=1), targets)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_of_the_table_goes_downhill(name: str) -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    recipe = Recipe().override({"stage1.optimizer": name, "stage1.head_lr": 0.1})
    optimizer = make_optimizer(recipe.stage1, [parameter], [])
    parameter.square().sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    assert abs(parameter.item()) < 3.0


def test_a_line_in_a_table_is_all_that_a_new_choice_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "margin", Choice("torch.nn:MultiMarginLoss"))
    monkeypatch.setitem(OPTIMIZERS, "rmsprop", Choice("torch.optim:RMSprop", ("momentum", "weight_decay")))
    monkeypatch.setitem(SCHEDULES, "linear", lambda step, steps: 1 - step / steps)
    recipe = Recipe().override(
        {"train.loss": "margin", "stage1.optimizer": "rmsprop", "stage1.schedule": "linear", "stage1.head_lr": 0.1}
    )
    loss = make_loss(recipe.train)(torch.tensor([[0.0, 0.5]]), torch.tensor([1]))
    assert loss.item() == pytest.approx((1 - 0.5) / 2)
    optimizer = make_optimizer(recipe.stage1, [nn.Parameter(torch.ones(1))], [])
    assert type(optimizer) is torch.optim.RMSprop
    assert optimizer.param_groups[0]["momentum"] == recipe.stage1.momentum
    scheduler = make_scheduler(optimizer, recipe.stage1.schedule, 4)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.075)


TARGETS = np.array([0, 0, 0, 1])
BALANCED = TrainRecipe.model_validate({"class_weights": "balanced"})


def test_balanced_weights_are_n_over_classes_times_count() -> None:
    weights = class_weights(BALANCED, TARGETS, 2)
    assert weights == pytest.approx((4 / (2 * 3), 4 / (2 * 1)))
    assert np.mean(np.array(weights)[TARGETS]) == pytest.approx(1.0)
    assert class_weights(TrainRecipe.model_validate({}), TARGETS, 2) is None


def test_the_weighted_loss_is_that_of_a_hand_computation() -> None:
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    loss = make_loss(BALANCED, (0.5, 3.0))(logits, targets)
    each = [-math.log(math.exp(2) / (math.exp(2) + 1)), -math.log(math.e / (1 + math.e)), -math.log(1 / (1 + math.e))]
    assert loss.item() == pytest.approx((0.5 * each[0] + 3 * each[1] + 3 * each[2]) / 3)


def test_the_weight_is_that_of_the_true_class_with_label_smoothing_too() -> None:
    recipe = TrainRecipe.model_validate({"class_weights": "balanced", "label_smoothing": 0.2})
    logits, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
    log = logits.log_softmax(1)[0]
    assert make_loss(recipe, (0.5, 3.0))(logits, targets).item() == pytest.approx(
        -3 * float(0.1 * log[0] + 0.9 * log[1])
    )


def test_mse_is_weighted_by_image() -> None:
    recipe = TrainRecipe.model_validate({"class_weights": "balanced", "loss": "mse"})
    logits, targets = torch.tensor([[1.0, 0.0], [3.0, 1.0]]), torch.tensor([0, 1])
    assert make_loss(recipe, (0.5, 3.0))(logits, targets).item() == pytest.approx((0.5 * 0 + 3 * 4.5) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_one_change_nothing(name: str) -> None:
    recipe = Recipe().override({"train.loss": name}).train
    logits, targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(make_loss(recipe, (1.0, 1.0, 1.0))(logits, targets), make_loss(recipe)(logits, targets))


def test_the_mean_of_two_processes_is_that_of_the_batch() -> None:
    logits, targets = (
        torch.randn(8, 2, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 0, 1, 0, 1, 1, 1, 1]),
    )
    loss = make_loss(BALANCED, (0.5, 3.0))
    parts = [loss(logits[rank::2], targets[rank::2]) for rank in (0, 1)]
    torch.testing.assert_close((parts[0] + parts[1]) / 2, loss(logits, targets))


TAUGHT = {"logits": torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]]), "targets": torch.tensor([0, 2])}
ANSWERS = torch.tensor([[0.5, 0.2, 0.0], [-1.0, 3.0, 1.0]])


def test_a_taught_loss_is_the_formula() -> None:
    recipe = DistillRecipe.model_validate({"weight": 0.3, "temperature": 4.0})
    loss = TaughtLoss(nn.functional.cross_entropy, recipe)(**TAUGHT, taught=ANSWERS)
    labelled = nn.functional.cross_entropy(TAUGHT["logits"], TAUGHT["targets"])
    wanted, own = (ANSWERS / 4).softmax(1), (TAUGHT["logits"] / 4).softmax(1)
    divergence = (wanted * (wanted / own).log()).sum(1).mean()
    torch.testing.assert_close(loss, 0.7 * labelled + 0.3 * 16 * divergence)


def test_a_teacher_that_says_the_same_adds_nothing() -> None:
    recipe = DistillRecipe.model_validate({"weight": 1.0, "temperature": 3.0})
    loss = TaughtLoss(nn.functional.cross_entropy, recipe)(**TAUGHT, taught=TAUGHT["logits"] + 7)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_without_a_teacher_the_loss_is_that_to_the_labels() -> None:
    loss = TaughtLoss(nn.functional.cross_entropy, DistillRecipe.model_validate({}))
    assert torch.equal(loss(**TAUGHT), nn.functional.cross_entropy(TAUGHT["logits"], TAUGHT["targets"]))


def test_the_layer_decay_lowers_the_rate_from_block_to_block() -> None:
    head, first, last = ([nn.Parameter(torch.full((1,), value))] for value in (1.0, 2.0, 3.0))
    optimizer = make_optimizer(stage(layer_decay=0.5), head, [*first, *last], [first, [], last])
    assert [(group["lr"], group["params"]) for group in optimizer.param_groups] == [
        (0.1, head),
        (0.01, last),
        (0.005, first),
    ]
    alike = make_optimizer(stage(), head, [*first, *last], [first, [], last])
    assert [(group["lr"], group["params"]) for group in alike.param_groups] == [(0.1, head), (0.01, [*first, *last])]
