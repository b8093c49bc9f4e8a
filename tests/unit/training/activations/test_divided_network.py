from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from activation_caches import exported
from tiny_training import Listening, tiny_recipe, tiny_setting, tiny_split
from torch import nn

from toolkit.backbones import Backbone, TrainableParts, apply_modes, set_trainable
from toolkit.backbones.frontier import Division, compare_parts
from toolkit.training.activations import divided_network
from toolkit.training.activations.divided_network import divide_network
from toolkit.training.activations.kept_prefix import KeptPrefix
from toolkit.training.activations.prefix import TorchPrefix
from toolkit.training.setting import Setting

pytestmark = pytest.mark.usefixtures("in_torch")


def whole(setting: Setting, images: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        logits: torch.Tensor = setting.backbone.model.eval()((pixels - 0.5) / 0.25)
    return logits


def test_one_division_serves_stages_that_train_more_and_more() -> None:
    listening = Listening()
    setting = tiny_setting(tiny_recipe(cache__use=True), listening)
    divided = divide_network(setting, None)
    assert divided is not None
    assert (divided.stages, divided.serves_all) == ((1, 2), True)
    images = tiny_split("train", 4).load(range(4), setting.preprocessing)
    for stage in divided.stages:
        cut = divided.cut(stage)
        tensors = divided.run_prefix(images, cut)
        assert [tuple(tensor.shape[1:]) for tensor in tensors] == [tensor.shape for tensor in cut.tensors]
        with torch.inference_mode():
            torch.testing.assert_close(cut.infer(*tensors), whole(setting, images), rtol=1e-4, atol=1e-5)
    (line,) = listening.lines
    assert line.startswith("frozen part: runs in torch ")
    assert "activations kept of each image: " in line


def test_a_stage_that_freezes_again_what_an_earlier_one_trained_has_a_division_of_its_own() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, stage1__unfreeze=1, stage2__unfreeze=0))
    first, second = divide_network(setting, None), divide_network(setting, 2)
    assert first is not None
    assert second is not None
    assert (first.stages, first.serves_all) == ((1,), False)
    assert (second.stages, second.serves_all) == ((2,), False)
    assert first.digest != second.digest


def test_a_recipe_without_a_cache_divides_nothing() -> None:
    assert divide_network(tiny_setting(tiny_recipe(cache__use=False)), None) is None


def test_a_network_without_a_frozen_part_is_said_and_not_divided() -> None:
    listening = Listening()
    setting = tiny_setting(tiny_recipe(cache__use=True, stage1__epochs=0, stage2__unfreeze=2), listening)
    assert divide_network(setting, None) is None
    assert listening.lines == [
        "training goes on without a cache of activations: test:tiny cannot be cut at its frozen part, nothing before "
        "the trained part is frozen"
    ]


def test_what_is_trained_is_the_networks_own() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True))
    divided = divide_network(setting, None)
    assert divided is not None
    parts = set_trainable(setting.backbone, 1)
    apply_modes(setting.backbone, parts)
    own = {id(parameter) for parameter in setting.backbone.model.parameters()}
    trained = {id(parameter) for parameter in divided.cut(2).train.parameters()}
    assert {id(parameter) for parameter in (*parts.head, *parts.backbone)} <= trained <= own


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> list[Division]:
    """Keep of each frozen part something that opens; returns what was compared."""
    done: list[Division] = []

    def compare(backbone: Backbone, stages: Sequence[TrainableParts], division: Division) -> None:
        compare_parts(backbone, stages, division)
        done.append(division)

    def make(network: nn.Module, setting: Setting, kept: KeptPrefix) -> TorchPrefix:
        kept.keep(exported())
        return TorchPrefix(network, setting.device, None)

    monkeypatch.setattr(divided_network, "compare_parts", compare)
    monkeypatch.setattr(divided_network, "make_prefix", make)
    return done


def test_parts_that_were_compared_once_are_not_compared_again(comparisons: list[Division]) -> None:
    recipe = tiny_recipe(cache__use=True)
    first, second = divide_network(tiny_setting(recipe), None), divide_network(tiny_setting(recipe), None)
    assert first is not None
    assert second is not None
    assert comparisons == [first.division]
    assert second.digest == first.digest
    assert [cut.tensors for cut in second.division.cuts] == [cut.tensors for cut in first.division.cuts]


def test_another_head_is_no_reason_to_compare_again(comparisons: list[Division]) -> None:
    for change in (0.0, 1.0):
        setting = tiny_setting(tiny_recipe(cache__use=True))
        with torch.no_grad():
            setting.backbone.model.get_parameter("fc.bias").add_(change)
        divide_network(setting, None)
    assert len(comparisons) == 1


@pytest.mark.parametrize("what", ["frozen weight", "setting of the trained part", "cut", "statistics"])
def test_parts_are_compared_where_anything_that_decides_it_has_changed(what: str, comparisons: list[Division]) -> None:
    divide_network(tiny_setting(tiny_recipe(cache__use=True)), None)
    changes: dict[str, Any] = {"cut": {"stage2__unfreeze": 0}, "statistics": {"train__train_bn": True}}
    setting = tiny_setting(tiny_recipe(cache__use=True, **changes.get(what, {})))
    model = setting.backbone.model
    with torch.no_grad():
        if what == "frozen weight":
            model.get_parameter("stem.0.bias")[0] += 1e-6
        elif what == "setting of the trained part":
            model.get_submodule("body")[1].eps *= 10
    divide_network(setting, None)
    assert len(comparisons) == 2


def test_both_ways_leave_the_network_and_the_generator_alike(comparisons: list[Division]) -> None:
    left = []
    for _ in range(2):
        setting = tiny_setting(tiny_recipe(cache__use=True))
        torch.manual_seed(5)
        divide_network(setting, None)
        model = setting.backbone.model
        left.append(
            (
                torch.get_rng_state().tolist(),
                [module.training for module in model.modules()],
                {name: tensor.tolist() for name, tensor in model.state_dict().items()},
            )
        )
    assert len(comparisons) == 1
    assert left[0] == left[1]
