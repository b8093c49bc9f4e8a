from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe, tiny_setting
from torch.nn import functional

from toolkit.backbones import set_trainable
from toolkit.backbones.deployable import Deployable
from toolkit.training.batch_sources import LogitsNetwork
from toolkit.training.setting import Setting
from toolkit.training.step import Learner, make_learner, training_step


def make(**changes: Any) -> tuple[Setting, Learner, torch.Tensor, torch.Tensor]:
    setting = tiny_setting(tiny_recipe(**changes))
    parts = set_trainable(setting.backbone, 1)
    module = LogitsNetwork(Deployable(setting.backbone.model, setting.backbone.normalization))
    split = setting.dataset.split("train")
    images = torch.from_numpy(split.load(range(8), setting.preprocessing))
    return (
        setting,
        make_learner(setting, setting.recipe.stage2, parts, module),
        images,
        torch.from_numpy(split.targets[:8]),
    )


def test_a_step_reports_the_batch_as_it_was_before_it_and_goes_downhill() -> None:
    _, learner, images, targets = make()
    seed = np.random.SeedSequence(1)
    with torch.no_grad():
        logits = learner.module(images)
    first = training_step(learner, [images], targets, seed)
    assert first.loss.item() == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-5)
    assert first.right.item() == (logits.argmax(1) == targets).sum().item()
    assert not first.loss.requires_grad
    for _ in range(20):
        last = training_step(learner, [images], targets, seed)
    assert last.loss < 0.5 * first.loss


def test_only_what_is_trained_changes() -> None:
    setting, learner, images, targets = make()
    before = {name: tensor.clone() for name, tensor in setting.backbone.model.state_dict().items()}
    training_step(learner, [images], targets, np.random.SeedSequence(1))
    after = setting.backbone.model.state_dict()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"body", "fc"}


def test_the_same_seed_makes_the_same_step_whatever_was_drawn_before() -> None:
    losses = []
    for drawn_before in (0, 3):
        _, learner, images, targets = make(augment__mixup=0.5)
        learner.module.register_forward_pre_hook(lambda _, inputs: inputs[0].double() * (1 + 0.1 * torch.rand(())))
        torch.rand(drawn_before)
        losses.append(training_step(learner, [images], targets, np.random.SeedSequence(5)).loss.item())
    assert losses[0] == losses[1]
    _, learner, images, targets = make(augment__mixup=0.5)
    assert training_step(learner, [images], targets, np.random.SeedSequence(6)).loss.item() != losses[0]
