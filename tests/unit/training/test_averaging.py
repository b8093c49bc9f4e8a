from __future__ import annotations

import pytest
import torch

from toolkit.recipe import TrainRecipe
from toolkit.training.averaging import WeightAverage, decay_at, first_averaged


def live(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.nn.Parameter(torch.full((3,), value)), "seen": torch.tensor(7)}


def set_to(weights: dict[str, torch.Tensor], value: float) -> None:
    with torch.no_grad():
        weights["w"].fill_(value)


def test_the_decay_warms_up_and_stays_at_what_was_asked_for() -> None:
    assert decay_at(0.99, 0) == 0.1
    assert decay_at(0.99, 10) == pytest.approx(11 / 20)
    assert decay_at(0.99, 10_000) == 0.99
    assert decay_at(0.05, 0) == 0.05


def test_the_moving_average_is_the_recursion() -> None:
    weights = live(1.0)
    average = WeightAverage(weights)
    wanted = 1.0
    average.follow(0.5)
    for updates, value in ((1, 4.0), (2, -2.0), (3, 3.0), (30, 8.0)):
        set_to(weights, value)
        average.updates = updates
        average.follow(0.5)
        decay = min(0.5, (1 + updates) / (10 + updates))
        wanted = decay * wanted + (1 - decay) * value
        torch.testing.assert_close(average.weights["w"], torch.full((3,), wanted))


def test_the_mean_counts_all_alike() -> None:
    weights = live(0.0)
    average = WeightAverage(weights)
    for value in (3.0, 6.0, 0.0, 7.0):
        set_to(weights, value)
        average.add()
    torch.testing.assert_close(average.weights["w"], torch.full((3,), 4.0))
    assert average.updates == 4
    assert "seen" not in average.weights


def test_the_average_stands_in_for_the_weights_in_the_block_alone() -> None:
    weights = live(2.0)
    average = WeightAverage(weights)
    average.add()
    set_to(weights, 4.0)
    average.add()
    with average.in_place():
        assert weights["w"].tolist() == [3.0] * 3
    assert weights["w"].tolist() == [4.0] * 3
    assert weights["w"].requires_grad


def test_without_an_update_the_weights_stay() -> None:
    weights = live(2.0)
    with WeightAverage(weights).in_place():
        assert weights["w"].tolist() == [2.0] * 3


def test_what_a_checkpoint_kept_goes_on_bit_for_bit() -> None:
    weights = live(0.1)
    whole = WeightAverage(weights)
    whole.follow(0.9)
    kept, updates = {name: value.clone() for name, value in whole.weights.items()}, whole.updates
    rest = WeightAverage(weights)
    rest.load(kept, updates)
    for value in (0.7, 1.3):
        set_to(weights, value)
        whole.follow(0.9)
        rest.follow(0.9)
    assert torch.equal(rest.weights["w"], whole.weights["w"])
    assert rest.updates == whole.updates
    assert not torch.equal(kept["w"], rest.weights["w"])


@pytest.mark.parametrize(("average", "epochs", "first"), [(0, 8, None), (1, 8, None), (3, 8, 6), (8, 8, 1), (20, 8, 1)])
def test_the_mean_is_of_the_last_epochs(average: int, epochs: int, first: int | None) -> None:
    assert first_averaged(TrainRecipe.model_validate({"average_last": average}), epochs) == first
