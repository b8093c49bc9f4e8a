from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import Listening, tiny_recipe, tiny_setting, tiny_split

from toolkit.backbones import apply_modes, set_trainable
from toolkit.training.activations.divided_network import divide_network
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
