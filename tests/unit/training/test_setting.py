from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image
from tiny_training import Listening, small_run_recipe, tiny_recipe, tiny_setting

from toolkit.errors import RunError
from toolkit.pixel_depth import linear_rule
from toolkit.preprocess import DECODE_RULES
from toolkit.progress import Silent
from toolkit.recipe import Recipe
from toolkit.training.setting import identity_of, prepared_setting


def test_a_setting_is_what_the_recipe_asks_for() -> None:
    listening = Listening()
    with prepared_setting(small_run_recipe(), listening) as setting:
        assert setting.backbone.name == "timm:test_efficientnet"
        assert (setting.preprocessing.height, setting.preprocessing.width) == (32, 32)
        assert setting.preprocessing.crop_fraction == 1.0
        assert (setting.threads, torch.get_num_threads()) == (1, 1)
        assert torch.are_deterministic_algorithms_enabled()
        assert setting.precision.name == "float32"
        assert len(setting.dataset.split("test")) == 20
    assert not torch.are_deterministic_algorithms_enabled()
    assert [line.partition(":")[0] for line in listening.lines] == ["data", "backbone", "recipe"]


def test_the_short_side_is_scaled_and_cropped_as_the_weights_were_evaluated() -> None:
    with prepared_setting(small_run_recipe(data__resize="crop"), Silent()) as setting:
        assert setting.preprocessing.crop_fraction == setting.backbone.crop_fraction < 1


@pytest.mark.parametrize("choice", ["full", "reduced"])
def test_files_are_decoded_as_the_recipe_says(choice: str) -> None:
    with prepared_setting(small_run_recipe(data__decode=choice), Silent()) as setting:
        assert setting.preprocessing.decode == DECODE_RULES[choice]
        assert setting.preprocessing.decode.startswith(f"{choice}: ")


def test_an_augmented_recipe_keeps_several_views() -> None:
    augmented = {"augment__flip": True, "augment__shift": 0.2}
    assert tiny_setting(tiny_recipe()).views == 1
    assert tiny_setting(tiny_recipe(**augmented)).views == 4
    assert tiny_setting(tiny_recipe(**augmented, cache__views=2)).views == 2


def test_the_range_of_deep_pixels_is_that_of_the_training_images(tmp_path: Path) -> None:
    for label, number in itertools.product("ab", range(6)):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 700 * number + ord(label), np.uint16)).save(tmp_path / label / f"{number}.png")
    listening = Listening()
    recipe = small_run_recipe(data__source=str(tmp_path), data__sixteen_bit="scale", data__layout="classes")
    with prepared_setting(recipe, listening) as setting:
        (values,) = setting.dataset.split("train").values or ()
        of_training = {int(np.asarray(Image.open(str(path))).max()) for path in setting.dataset.split("train").sources}
        assert (values.low, values.high) == (min(of_training), max(of_training))
        assert setting.preprocessing.sixteen_bit == linear_rule(values.low, values.high)
    assert f"pixels of more than 8 bits: {linear_rule(values.low, values.high)}" in listening.lines
    assert not any("--sixteen-bit" in line for line in listening.lines)


def test_the_identity_tells_what_changed() -> None:
    before = identity_of(tiny_setting(tiny_recipe()))
    assert identity_of(tiny_setting(tiny_recipe())) == before
    assert set(before) == {
        "recipe",
        "classes",
        "train images",
        "validation images",
        "test images",
        "starting weights",
        "precision",
    }
    other = identity_of(tiny_setting(tiny_recipe(seed=1)))
    assert {name for name in before if before[name] != other[name]} == {"recipe"}
    setting = tiny_setting(tiny_recipe())
    with torch.no_grad():
        setting.backbone.model.get_parameter("fc.bias").add_(1)
    changed = identity_of(setting)
    assert {name for name in before if before[name] != changed[name]} == {"starting weights"}


def told_before(recipe: Recipe) -> str:
    """Return the recipe as versions wrote it that knew neither a choice of decoding nor means to lift accuracy."""
    tree = recipe.model_dump(mode="json", exclude_none=True)
    assert tree.pop("distill") == {"weight": 0.5, "temperature": 2.0}
    assert tree.pop("model") == {"flip_test": False}
    assert tree.pop("stage3")["epochs"] == 0
    for section, names in (
        ("data", ("decode",)),
        ("augment", ("cutmix", "crop", "randaugment", "magnitude", "erase", "erase_area")),
        ("cache", ("refresh",)),
        ("train", ("ema", "average_last", "patience", "sam_rho", "bn_reestimate")),
        ("stage1", ("layer_decay", "solver")),
        ("stage2", ("layer_decay",)),
    ):
        for name in names:
            del tree[section][name]
    return tomli_w.dumps(tree)


def test_a_run_of_before_there_was_a_choice_goes_on() -> None:
    """Its recipe did not say that it decodes in full; the digest of what it said stands in its checkpoints."""
    full = tiny_recipe(data__decode="full")
    assert identity_of(tiny_setting(full))["recipe"] == hashlib.sha256(told_before(full).encode()).hexdigest()
    for changes in (
        {"data__decode": "reduced"},
        {"train__ema": 0.9},
        {"train__patience": 1},
        {"train__sam_rho": 0.1},
        {"train__dropout": 0.0},
        {"model__flip_test": True},
        {"stage3__epochs": 1, "stage3__unfreeze": 1},
    ):
        other = tiny_recipe(**{"data__decode": "full", **changes})
        assert identity_of(tiny_setting(other))["recipe"] != identity_of(tiny_setting(full))["recipe"]


def test_where_weights_lie_in_memory_is_no_part_of_the_identity() -> None:
    setting = tiny_setting(tiny_recipe())
    before = identity_of(setting)
    setting.backbone.model.to(memory_format=torch.channels_last)
    assert identity_of(setting) == before


def test_a_batch_that_several_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from toolkit.training import setting as module
    from toolkit.training.group import Group

    @contextmanager
    def three(device: str):
        yield Group(rank=1, world=3)

    monkeypatch.setattr(module, "joined", three)
    with (
        pytest.raises(RunError, match="a batch of 16 images cannot be shared by 3 processes: give a multiple of them"),
        prepared_setting(small_run_recipe(), Silent()),
    ):
        pass
