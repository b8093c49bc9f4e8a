from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe, tiny_setting

from toolkit.backbones import head_layer
from toolkit.errors import TrainingError
from toolkit.training.group import Group
from toolkit.training.logistic_regression import WITHOUT_FOLDS
from toolkit.training.setting import Setting
from toolkit.training.solved_head import Solution, _head_inputs, problem_of, put_head, solve_head
from toolkit.training.training_data import TrainingData, chosen_of

pytestmark = pytest.mark.usefixtures("in_torch", "own_cache")


def setting_of(**changes: Any) -> Setting:
    return tiny_setting(tiny_recipe(**{"cache__use": True, "stage1__solver": "lbfgs", **changes}))


def solved(setting: Setting) -> Solution:
    with TrainingData(setting) as data:
        return solve_head(setting, data.batches(1))


def logits_of(setting: Setting, name: str = "train") -> torch.Tensor:
    with TrainingData(setting) as data, torch.inference_mode():
        setting.backbone.model.eval()
        split = setting.dataset.split(name)
        return data.image_batches(1).part.infer(torch.from_numpy(split.load(range(len(split)), setting.preprocessing)))


def test_the_network_with_the_solution_computes_the_logits_of_the_regression() -> None:
    setting = setting_of()
    with TrainingData(setting) as data:
        problem = problem_of(setting, data.batches(1))
    solution = problem.solve(1e-2)
    put_head(setting.backbone, *problem.head(solution))
    torch.testing.assert_close(logits_of(setting), problem.logits(solution).float(), rtol=1e-4, atol=1e-4)


def test_it_says_how_good_it_is_on_what_it_was_solved_on() -> None:
    setting = setting_of(augment__shift=0.3, cache__views=3)
    found = solved(setting)
    assert (found.record.images, found.record.views, found.record.folds) == (18, 3, 5)
    put_head(setting.backbone, found.weights, found.bias)
    targets = torch.from_numpy(setting.dataset.split("train").targets)
    logits = logits_of(setting)
    assert found.right == int((logits.argmax(dim=1) == targets).sum())
    assert found.record.accuracy is not None
    assert 0.5 < found.record.accuracy <= 1.0
    alone = solved(setting_of())
    loss = torch.nn.functional.cross_entropy(
        _put(setting_of(), alone), torch.from_numpy(setting_of().dataset.split("train").targets)
    )
    assert alone.loss == pytest.approx(float(loss), rel=1e-3)


def _put(setting: Setting, found: Solution) -> torch.Tensor:
    put_head(setting.backbone, found.weights, found.bias)
    return logits_of(setting)


def test_whole_images_and_kept_activations_give_the_same_head() -> None:
    kept, whole = (solved(setting_of(cache__use=use)) for use in (True, False))
    torch.testing.assert_close(kept.weights, whole.weights, rtol=1e-3, atol=1e-3)


def test_the_second_stage_sees_the_same_features_as_the_first() -> None:
    setting = setting_of()
    with TrainingData(setting) as data:
        first, second = (problem_of(setting, data.batches(number)).solve(1e-2) for number in (1, 2))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_nothing_is_changed_and_it_repeats_itself_bit_for_bit() -> None:
    setting = setting_of()
    before = {name: tensor.clone() for name, tensor in setting.backbone.model.state_dict().items()}
    first, second = solved(setting), solved(setting_of())
    assert all(torch.equal(tensor, before[name]) for name, tensor in setting.backbone.model.state_dict().items())
    assert torch.equal(first.weights, second.weights)
    assert torch.equal(first.bias, second.bias)
    assert first.record == second.record
    assert not head_layer(setting.backbone)._forward_hooks


class _Together(Group):
    """One of two processes, with what the other one has."""

    others: Sequence[Any] = ()

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.others] if self.rank == 0 else [*self.others, value]

    def broadcast(self, value: Any) -> Any:
        return value


def test_processes_put_their_images_together_in_their_order() -> None:
    parts = []
    for rank in range(2):
        setting = replace(setting_of(), group=_Together(rank, 2))
        with TrainingData(setting) as data:
            batches = data.batches(1)
            with torch.no_grad():
                parts.append(np.stack([_head_inputs(setting.backbone, batches, 0)]))
    leading = _Together(0, 2)
    object.__setattr__(leading, "others", [parts[1]])
    setting = replace(setting_of(), group=leading)
    shared, alone = solved(setting), solved(setting_of())
    torch.testing.assert_close(shared.weights, alone.weights, rtol=1e-4, atol=1e-4)
    assert shared.record == alone.record


def test_of_one_image_a_class_nothing_is_chosen_and_nothing_is_said_of_folds() -> None:
    setting = setting_of()
    train = chosen_of(setting.dataset.split("train"), np.array([0, 1]), "one of each class")
    setting = replace(setting, dataset=replace(setting.dataset, splits={**setting.dataset.splits, "train": train}))
    found = solved(setting)
    assert (found.record.l2, found.record.folds, found.record.accuracy) == (WITHOUT_FOLDS, 0, None)
    assert found.right == 2


@pytest.mark.parametrize("cache", [True, False])
def test_what_is_not_finite_is_refused(cache: bool) -> None:
    setting = setting_of(cache__use=cache)
    with torch.no_grad():
        setting.backbone.model.get_parameter("body.0.weight").fill_(1e38)
    refused = (
        r"^what test:tiny makes of 18 of the 18 training images is not finite, and no head can be solved on that: give "
        r"other --weights or another --backbone\.$"
    )
    with pytest.raises(TrainingError, match=refused):
        solved(setting)


def test_class_weights_count() -> None:
    def margin(**changes: Any) -> float:
        """Return how much more probable the rare class is than the other, over all training images."""
        setting = setting_of(**changes)
        few = np.array([0, 2, 4, 6, 8, 10, 12, 14, 1, 3])
        train = chosen_of(setting.dataset.split("train"), few, "few bright ones")
        setting = replace(setting, dataset=replace(setting.dataset, splits={**setting.dataset.splits, "train": train}))
        logits = _put(setting, solved(setting))
        return float((logits[:, 1] - logits[:, 0]).mean())

    assert margin(train__class_weights="balanced") > margin()
