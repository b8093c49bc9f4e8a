from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from toolkit.finetune.step import mixup


def test_without_alpha_mixup_changes_nothing() -> None:
    tensors, targets = [torch.randn(4, 3)], torch.tensor([0, 1, 2, 0])
    blended, loss = mixup(tensors, targets, 0.0, np.random.SeedSequence(0), functional.cross_entropy)
    assert blended is tensors
    logits = torch.randn(4, 3)
    assert torch.equal(loss(logits), functional.cross_entropy(logits, targets))


def test_mixup_blends_inputs_and_losses_by_the_same_share() -> None:
    targets = torch.tensor([0, 1, 2, 3])
    one_hot = functional.one_hot(targets, 4).float()
    blended, loss = mixup([one_hot], targets, 0.4, np.random.SeedSequence(3), functional.cross_entropy)
    logits = torch.randn(4, 4)
    # The blended one-hot rows are the soft targets, so the loss must be the cross-entropy to them.
    assert loss(logits).item() == pytest.approx(functional.cross_entropy(logits, blended[0]).item(), rel=1e-5)
    assert not torch.equal(blended[0], one_hot)
    assert blended[0].sum(dim=1).tolist() == pytest.approx([1.0] * 4)


def test_mixup_blends_all_tensors_of_a_frontier_alike() -> None:
    first, second = torch.randn(5, 2), torch.randn(5, 3, 2, 2)
    blended, _ = mixup([first, second], torch.arange(5), 1.0, np.random.SeedSequence(7), functional.cross_entropy)
    again, _ = mixup([second], torch.arange(5), 1.0, np.random.SeedSequence(7), functional.cross_entropy)
    assert torch.equal(blended[1], again[0])
