from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.finetune.evaluate import loss_and_accuracy


def test_loss_and_accuracy_are_those_of_pytorch() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 40, (50, 7)).astype(np.float32)
    targets = generator.integers(0, 7, 50)
    loss, accuracy = loss_and_accuracy(logits, targets)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets))
    assert loss == pytest.approx(expected.item())
    assert accuracy == (logits.argmax(1) == targets).mean()
