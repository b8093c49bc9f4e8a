from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe, tiny_setting, tiny_split

from toolkit.training import evaluate
from toolkit.training.evaluate import predict_logits


class Counter:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def advance(self, steps: int = 1, **fields: str) -> None:
        self.steps.append(steps)


def test_every_image_once_in_order_and_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "EVALUATION_BATCH", 4)
    setting, split, bar = tiny_setting(tiny_recipe()), tiny_split("test", 10), Counter()
    grad: list[bool] = []

    def mean(images: np.ndarray) -> torch.Tensor:
        grad.append(torch.is_grad_enabled())
        return torch.from_numpy(images).double().mean((1, 2))

    logits = predict_logits(setting, split, mean, bar)
    assert logits.dtype == np.float32
    expected = split.load(range(10), setting.preprocessing).astype(np.float64).mean((1, 2))
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    assert bar.steps == [4, 4, 2]
    assert grad == [False] * 3
