from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import Listening, tiny_recipe, tiny_setting

from toolkit.data.augment import epoch_view, make_view
from toolkit.data.batches import load_views
from toolkit.preprocess import DECODE_RULES
from toolkit.training.activations import extraction
from toolkit.training.activations.catalogue import entries
from toolkit.training.activations.divided_network import DividedNetwork, divide_network
from toolkit.training.activations.extraction import Extraction, NoCacheError
from toolkit.training.activations.new_views import chosen_images

pytestmark = pytest.mark.usefixtures("in_torch")

AUGMENTED = {"augment__flip": True, "augment__shift": 0.2}


def make_extraction(listening: Listening | None = None, **changes: Any) -> Extraction[DividedNetwork]:
    setting = tiny_setting(tiny_recipe(cache__use=True, **changes), listening)
    divided = divide_network(setting, None)
    assert divided is not None
    return Extraction(setting, divided)


def test_rows_are_what_the_frozen_part_computes(own_cache: Path) -> None:
    made = make_extraction()
    split = made.setting.dataset.split("train")
    kept = made.activations(split, 1)
    images = np.array([5, 0, 5], np.int64)
    cut = made.divided.cut(2)
    (maps,) = kept.load(made.divided.places(cut), images, np.zeros(3, np.int64), torch.device("cpu"))
    (computed,) = made.divided.run_prefix(split.load(images, made.setting.preprocessing), cut)
    torch.testing.assert_close(maps, computed)
    assert np.array_equal(kept.targets, split.targets)
    kept.cache.close()


def test_the_first_view_is_the_image_and_the_others_are_augmented(own_cache: Path) -> None:
    made = make_extraction(**AUGMENTED, cache__views=3)
    split = made.setting.dataset.split("train")
    kept, plain = made.activations(split, 3), made.activations(split, 1)
    images = np.arange(4)
    views = [kept.load([0], images, np.full(4, view), torch.device("cpu"))[0] for view in range(3)]
    (unchanged,) = plain.load([0], images, np.zeros(4, np.int64), torch.device("cpu"))
    assert torch.equal(views[0], unchanged)
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])
    assert kept.cache.key.rows == 3 * len(split)
    for activations in (kept, plain):
        activations.cache.close()


def test_what_is_there_is_not_computed_again(own_cache: Path) -> None:
    listening = Listening()
    made = make_extraction(listening)
    split = made.setting.dataset.split("validation")
    made.activations(split, 1).cache.close()
    assert listening.bars == ["frozen part: preparing its engine", "frozen part, validation"]
    made.activations(split, 1).cache.close()
    assert listening.bars[2:] == ["checking kept activations"]
    assert listening.lines[-1].startswith("validation: activations are there already (")
    assert len(entries(own_cache)) == 1


def test_the_key_holds_what_decides_the_content() -> None:
    made = make_extraction(**AUGMENTED, seed=7)
    split = made.setting.dataset.split("train")
    several, single = made.key(split, 2), made.key(split, 1)
    assert json.loads(several.augmentation) == {"seed": 7, "flip": True, "shift": 0.2}
    assert json.loads(single.augmentation) == {}
    assert (several.rows, single.rows) == (2 * len(split), len(split))
    assert several.data == split.fingerprint
    assert several.engine == made.divided.prefix.engine
    assert several.prefix_sha256 == made.divided.digest


def test_the_key_names_what_else_is_drawn() -> None:
    stronger = {"augment__crop": 0.4, "augment__randaugment": 2, "augment__erase": 0.3}
    made = make_extraction(**stronger)
    assert json.loads(made.key(made.setting.dataset.split("train"), 2).augmentation) == {
        "seed": 0,
        "flip": False,
        "shift": 0.0,
        "crop": 0.4,
        "randaugment": 2,
        "magnitude": 9,
        "erase": 0.3,
        "erase_area": 0.33,
    }


def test_views_are_cropped_and_changed_before_the_frozen_part(own_cache: Path) -> None:
    made = make_extraction(
        augment__crop=0.3, augment__randaugment=2, augment__erase=0.5, augment__flip=True, cache__views=3
    )
    split, recipe = made.setting.dataset.split("train"), made.setting.recipe
    kept = made.activations(split, 3)
    images, cut = np.array([5, 0, 11]), made.divided.cut(2)
    views = [make_view(recipe.augment, recipe.seed, view) for view in range(3)]
    for view, pixels in enumerate(load_views(split, images, made.setting.preprocessing, views)):
        (maps,) = kept.load(made.divided.places(cut), images, np.full(3, view), torch.device("cpu"))
        torch.testing.assert_close(maps, made.divided.run_prefix(pixels, cut)[0])
        assert np.array_equal(pixels, split.load(images, made.setting.preprocessing)) == (view == 0)
    kept.cache.close()


def test_what_was_decoded_in_full_is_not_taken_for_what_is_reduced() -> None:
    made = make_extraction()
    split = made.setting.dataset.split("train")
    digests = set()
    for rule in DECODE_RULES.values():
        preprocessing = made.setting.preprocessing.model_copy(update={"decode": rule})
        digests.add(replace(made, setting=replace(made.setting, preprocessing=preprocessing)).key(split, 1).digest())
    assert len(digests) == 2


def test_values_beyond_float16_are_kept_in_float32_and_found_there(own_cache: Path) -> None:
    listening = Listening()
    setting = tiny_setting(tiny_recipe(cache__use=True, cache__dtype="float16"), listening)
    with torch.no_grad():
        setting.backbone.model.get_parameter("stem.1.bias").fill_(1e5)
    divided = divide_network(setting, None)
    assert divided is not None
    made = Extraction(setting, divided)
    split = setting.dataset.split("validation")
    kept = made.activations(split, 1)
    assert kept.cache.key.dtype == "float32"
    assert any(
        line.endswith("has values beyond the range of float16: kept in float32 instead") for line in listening.lines
    )
    kept.cache.close()
    made.activations(split, 1).cache.close()
    assert listening.bars.count("frozen part, validation") == 2  # once refused, once kept, never again


def test_what_another_run_keeps_in_float32_is_not_taken_for_float16(own_cache: Path) -> None:
    wide, narrow = (make_extraction(cache__dtype=dtype) for dtype in ("float32", "float16"))
    split, images = wide.setting.dataset.split("train"), np.arange(18)
    rows = {}
    for made in (wide, narrow):
        kept = made.activations(split, 1)
        rows[kept.cache.key.dtype] = kept.cache.read(0, images)
        kept.cache.close()
    np.testing.assert_array_equal(rows["float16"], rows["float32"].astype(np.float16))
    assert len(entries(own_cache)) == 2


def test_what_does_not_fit_on_the_disk_is_not_begun(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_extraction()
    monkeypatch.setattr(extraction, "free_bytes", lambda folder: extraction.SPARE_BYTES)
    told = r"the activations of the train images need 0\.0 GB, and .* has 0\.5 GB free, of which 0\.5 GB stay free$"
    with pytest.raises(NoCacheError, match=told):
        made.activations(made.setting.dataset.split("train"), 1)
    assert not own_cache.exists()


NEW = {**AUGMENTED, "augment__crop": 0.4, "cache__refresh": 0.5, "cache__views": 2}


def test_new_views_are_what_the_frozen_part_makes_of_the_views_of_the_epoch(own_cache: Path) -> None:
    listening = Listening()
    made = make_extraction(listening, **NEW)
    split, cut, seed = made.setting.dataset.split("train"), made.divided.cut(2), (0, 2, 3)
    kept = made.activations(split, 2)
    before = entries(own_cache)
    places = made.divided.places(cut)
    new = made.new_views(split, kept, places, seed)
    images = np.flatnonzero(new.places >= 0)
    assert images.tolist() == chosen_images(seed, 18, 9).tolist()
    (pixels,) = load_views(split, images, made.setting.preprocessing, [epoch_view(made.setting.recipe.augment, seed)])
    (computed,) = made.divided.run_prefix(pixels, cut)
    everything, first = np.arange(18), np.zeros(18, np.int64)
    (maps,) = replace(kept, new=new).load(places, everything, first, torch.device("cpu"))
    (old,) = kept.load(places, everything, first, torch.device("cpu"))
    torch.testing.assert_close(maps[images], computed)
    others = np.flatnonzero(new.places < 0)
    assert torch.equal(maps[others], old[others])
    assert not torch.isclose(maps[images], old[images]).all(dim=(1, 2, 3)).any()
    assert listening.bars[-1] == "frozen part, new views"
    new.close()
    assert entries(own_cache) == before
    kept.cache.close()


def test_new_views_have_the_tensors_that_are_asked_for_and_the_type_of_those_that_are_kept(own_cache: Path) -> None:
    made = make_extraction(**NEW)
    split = made.setting.dataset.split("train")
    kept = made.activations(split, 2)
    last = len(made.divided.tensors) - 1
    new = made.new_views(split, kept, [last], (0, 2, 1))
    assert new.cache.key.tensors == kept.cache.key.tensors[last:]
    assert (new.cache.key.dtype, new.cache.key.rows, new.cache.key.views) == ("float32", 9, 1)
    assert json.loads(new.cache.key.augmentation)["epoch"] == [0, 2, 1]
    new.close()
    kept.cache.close()


def test_new_views_that_do_not_fit_are_not_begun(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_extraction(**NEW)
    split = made.setting.dataset.split("train")
    kept = made.activations(split, 2)
    monkeypatch.setattr(extraction, "free_bytes", lambda folder: extraction.SPARE_BYTES)
    with pytest.raises(NoCacheError, match=r"the activations of new views need .* GB free"):
        made.new_views(split, kept, [0], (0, 2, 1))
    assert len(list(own_cache.iterdir())) == 1
    kept.cache.close()
