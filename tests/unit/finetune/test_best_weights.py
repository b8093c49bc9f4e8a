from __future__ import annotations

import torch

from toolkit.finetune.best_weights import Best
from toolkit.finetune.history import Epoch


def epoch(accuracy: float, loss: float = 1.0, number: int = 1) -> Epoch:
    return Epoch(2, number, 0.5, 0.8, loss, accuracy, 0.1, 0.01, 3.25)


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss() -> None:
    best = Best()
    weights = {"w": torch.zeros(1)}
    for done, value in (
        (epoch(0.5), 1.0),
        (epoch(0.7, 0.9, 2), 2.0),
        (epoch(0.7, 0.8, 3), 3.0),
        (epoch(0.6, 0.1, 4), 4.0),
    ):
        weights["w"][0] = value
        best.offer(done, weights)
    assert (best.epoch, best.accuracy, best.loss) == (3, 0.7, 0.8)
    assert best.weights is not None
    assert best.weights["w"].item() == 3.0


def test_an_epoch_without_a_usable_loss_is_never_the_best() -> None:
    best = Best()
    best.offer(epoch(float("nan")), {})
    assert best.weights is None
