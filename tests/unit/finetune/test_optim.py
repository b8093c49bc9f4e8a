from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.finetune.optim import make_loss, make_optimizer, make_scheduler, schedule_factor
from toolkit.recipe import Recipe, StageRecipe, TrainRecipe


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


def test_constant_stays() -> None:
    assert {schedule_factor("constant", step, 7) for step in range(7)} == {1.0}


def test_cosine_falls_from_one_to_zero() -> None:
    factors = [schedule_factor("cosine", step, 10) for step in range(11)]
    assert factors[0] == 1.0
    assert factors[5] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0.0)
    assert factors == sorted(factors, reverse=True)


def test_one_cycle_climbs_for_a_third_and_falls_to_almost_nothing() -> None:
    factors = [schedule_factor("one_cycle", step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[30] == 1.0
    assert factors[:31] == sorted(factors[:31])
    assert factors[30:] == sorted(factors[30:], reverse=True)
    assert factors[100] == pytest.approx(1e-4)


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


def test_the_recipe_names_exactly_the_schedules_there_are() -> None:
    for name in ("constant", "cosine", "one_cycle"):
        assert Recipe().override({"stage1.schedule": name}).stage1.schedule == name
