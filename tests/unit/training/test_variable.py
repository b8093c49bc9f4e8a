from __future__ import annotations

from toolkit.backbones import create_backbone
from toolkit.recipe import Recipe, load_recipe
from toolkit.training.variable import variable_tensors


def recipe(**changes: object) -> Recipe:
    return load_recipe("textbook").override({key.replace("__", "."): value for key, value in changes.items()})


def test_what_may_change_is_the_head_and_what_any_stage_unfreezes() -> None:
    backbone = create_backbone("resnet18", weights="none", classes=3, image_size=32, seed=0)
    names = variable_tensors(recipe(), backbone)
    assert {name.partition(".")[0] for name in names} == {"layer4", "fc"}
    assert not [name for name in names if "running" in name]
    trained = variable_tensors(recipe(train__train_bn=True), backbone)
    assert "layer4.0.bn1.running_mean" in trained
    assert "layer3.0.bn1.running_mean" not in trained
    assert {name.partition(".")[0] for name in variable_tensors(recipe(stage2__epochs=0), backbone)} == {"fc"}
