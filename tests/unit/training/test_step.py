from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe, tiny_setting
from torch.nn import functional

from toolkit.backbones import set_trainable
from toolkit.backbones.deployable import Deployable
from toolkit.training.batch_sources import LogitsNetwork
from toolkit.training.blending import blend
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


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_a_blended_input_is_right_as_that_of_which_it_has_more(how: str) -> None:
    shares, counted = set(), 0
    for number in range(8):
        _, learner, images, targets = make(**{f"augment__{how}": 0.5})
        seed = np.random.SeedSequence(number)
        blended = blend([images], len(targets), learner.augment, seed)
        assert blended.other is not None
        with torch.no_grad():
            guesses = learner.module(*blended.tensors).argmax(1)
        shares.add(blended.share > 0.5)
        of_more = targets if blended.share > 0.5 else targets[blended.other]
        counted += (guesses == of_more).sum().item() != (guesses == targets).sum().item()
        assert training_step(learner, [images], targets, seed).right == (guesses == of_more).sum()
    assert shares == {True, False}
    assert counted, "no batch tells the two ways to count apart"


def sam_by_hand(weights: torch.Tensor, rho: float, rate: float) -> torch.Tensor:
    """Return where a step of Foret et al. 2021 takes the weights of ``loss = sum(a w^4)``."""
    steepness = torch.tensor([1.0, 10.0])
    gradient = 4 * steepness * weights**3
    climbed = weights + rho * gradient / gradient.norm()
    return weights - rate * 4 * steepness * climbed**3


def test_a_sharpness_aware_step_takes_the_gradient_where_the_loss_is_highest_nearby() -> None:
    weights = torch.nn.Parameter(torch.tensor([0.5, -0.25]))
    _, learner, _, targets = make()

    class Bowl(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return (torch.tensor([1.0, 10.0]) * weights**4).sum().expand(8, 2)

    def loss(logits: torch.Tensor, targets: torch.Tensor, taught: torch.Tensor | None) -> torch.Tensor:
        return logits[0, 0]

    bowl = replace(learner, module=Bowl(), loss=loss, optimizer=torch.optim.SGD([weights], lr=0.01), sharpness=0.2)
    wanted = sam_by_hand(weights.detach().clone(), 0.2, 0.01)
    before = (torch.tensor([1.0, 10.0]) * weights.detach() ** 4).sum().item()
    result = training_step(bowl, [torch.zeros(8)], targets, np.random.SeedSequence(1))
    torch.testing.assert_close(weights.detach(), wanted)
    assert result.loss.item() == pytest.approx(before)


def two_passes(**changes: Any) -> tuple[Setting, Learner, list[torch.Tensor], list[torch.Tensor]]:
    """Make a sharpness-aware step; also return what the network was given in each pass and what it drew."""
    setting, learner, images, targets = make(train__sam_rho=0.05, **changes)
    given: list[torch.Tensor] = []
    drawn: list[torch.Tensor] = []

    def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        given.append(inputs[0].clone())
        drawn.append(torch.rand(3))
        inputs[0].zero_()  # as a network may that works in place

    learner.module.register_forward_pre_hook(note)
    training_step(learner, [images], targets, np.random.SeedSequence(1))
    return setting, learner, given, drawn


def test_both_passes_are_given_and_leave_out_the_same() -> None:
    _, _, given, drawn = two_passes(augment__mixup=0.5)
    assert len(given) == 2
    assert torch.equal(given[0], given[1])
    assert given[0].abs().sum() > 0
    assert torch.equal(drawn[0], drawn[1])


def test_statistics_are_those_of_the_first_pass() -> None:
    name = "body.1.running_mean"
    states = []
    for rho in (0.0, 0.5):
        setting = tiny_setting(tiny_recipe(train__sam_rho=rho, train__train_bn=True))
        module = LogitsNetwork(Deployable(setting.backbone.model, setting.backbone.normalization))
        parts = set_trainable(setting.backbone, 1, train_bn=True)
        learner = make_learner(setting, setting.recipe.stage2, parts, module)
        split = setting.dataset.split("train")
        images = torch.from_numpy(split.load(range(8), setting.preprocessing))
        training_step(learner, [images], torch.from_numpy(split.targets[:8]), np.random.SeedSequence(1))
        states.append(setting.backbone.model.state_dict())
    plain, sharp = states
    assert torch.equal(plain[name], sharp[name])
    assert sharp["body.1.num_batches_tracked"] == 1
    assert not torch.equal(plain["body.0.weight"], sharp["body.0.weight"])
