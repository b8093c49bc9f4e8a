from __future__ import annotations

import torch

from toolkit.training.meter import CUDA_STEPS, Meter, Step
from toolkit.training.step import StepResult


def add(meter: Meter, number: int) -> None:
    meter.add(Step(1, 2, number, 16, (0.1,)), StepResult(torch.tensor(number / 4), torch.tensor(number)))


def test_figures_of_steps_in_order_and_once() -> None:
    meter = Meter("cpu")
    assert meter.take() == []
    add(meter, 1)
    add(meter, 2)
    assert meter.take() == [Step(1, 2, 1, 16, (0.1,), 0.25, 1), Step(1, 2, 2, 16, (0.1,), 0.5, 2)]
    assert meter.take() == []


def test_a_cpu_is_looked_at_after_every_step_and_cuda_seldom() -> None:
    for device, most in (("cpu", 1), ("cuda", CUDA_STEPS)):
        meter = Meter(device)
        for number in range(most):
            assert not meter.full
            add(meter, number)
        assert meter.full
        assert len(meter.take()) == most
        assert not meter.full
