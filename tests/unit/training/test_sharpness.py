from __future__ import annotations

import pytest
import torch
from torch import nn

from toolkit.training.sharpness import climbed


def with_gradient(value: list[float], gradient: list[float] | None) -> nn.Parameter:
    weight = nn.Parameter(torch.tensor(value))
    weight.grad = None if gradient is None else torch.tensor(gradient)
    return weight


def test_all_weights_together_climb_so_far_along_their_gradient() -> None:
    first, second = with_gradient([1.0, 2.0], [3.0, 0.0]), with_gradient([5.0], [-4.0])
    with climbed([first, second], [], 0.5):
        assert first.tolist() == pytest.approx([1.3, 2.0])
        assert second.tolist() == pytest.approx([4.6])


def test_they_are_back_bit_for_bit_and_so_are_the_statistics() -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(50)) for _ in range(3)]
    for weight in weights:
        weight.grad = torch.randn(50)
    statistics = [torch.randn(4), torch.tensor(3)]
    before = [tensor.clone() for tensor in (*weights, *statistics)]
    with climbed(weights, statistics, 0.123):
        assert not torch.equal(weights[0], before[0])
        statistics[0].add_(1)
        statistics[1].add_(1)
    assert all(torch.equal(now, then) for now, then in zip((*weights, *statistics), before, strict=True))


def test_they_are_back_after_an_error() -> None:
    weight = with_gradient([1.0], [1.0])
    with pytest.raises(KeyboardInterrupt), climbed([weight], [], 1.0):
        raise KeyboardInterrupt
    assert weight.tolist() == [1.0]


def test_a_scaled_gradient_climbs_as_far() -> None:
    weight, scaled = with_gradient([1.0, 1.0], [3.0, 4.0]), with_gradient([1.0, 1.0], [3e4, 4e4])
    with climbed([weight], [], 0.1), climbed([scaled], [], 0.1):
        torch.testing.assert_close(weight, scaled)


def test_without_a_gradient_nothing_moves() -> None:
    unused, still = with_gradient([1.0], None), with_gradient([2.0], [0.0])
    with climbed([unused, still], [], 0.5):
        assert (unused.item(), still.item()) == (1.0, 2.0)


def test_what_overflowed_comes_back_too() -> None:
    weight = with_gradient([1.0, 2.0], [float("inf"), 1.0])
    with climbed([weight], [], 0.5):
        assert not weight.isfinite().all()
    assert weight.tolist() == [1.0, 2.0]
