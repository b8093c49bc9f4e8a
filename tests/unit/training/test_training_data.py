from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import Listening, tiny_recipe, tiny_setting

from toolkit.progress import Silent
from toolkit.training.activations import extraction
from toolkit.training.activations.catalogue import entries
from toolkit.training.batch_sources import ActivationBatches, ImageBatches
from toolkit.training.group import Group
from toolkit.training.training_data import FoldData, TrainingData, chosen_of

pytestmark = pytest.mark.usefixtures("in_torch")


def test_both_stages_train_on_activations_of_one_pass(own_cache: Path) -> None:
    listening = Listening()
    with TrainingData(tiny_setting(tiny_recipe(cache__use=True), listening)) as data:
        assert data.divided is not None
        assert not own_cache.exists()
        assert all(isinstance(data.batches(stage), ActivationBatches) for stage in (1, 2))
        assert [bar for bar in listening.bars if bar.startswith("frozen part,")] == [
            "frozen part, train",
            "frozen part, validation",
        ]
        assert {key.digest() for key in data.cache_keys()} == {entry.digest for entry in entries(own_cache)}


def test_a_stage_with_another_frozen_part_is_divided_anew(own_cache: Path) -> None:
    recipe = tiny_recipe(cache__use=True, stage1__unfreeze=1, stage2__unfreeze=0)
    with TrainingData(tiny_setting(recipe)) as data:
        assert isinstance(data.batches(1), ActivationBatches)
        assert data.divided is not None
        assert data.divided.stages == (1,)
        assert isinstance(data.batches(2), ActivationBatches)
        assert data.divided.stages == (2,)
        assert len(entries(own_cache)) == 4


def test_without_a_cache_images_are_trained_on() -> None:
    with TrainingData(tiny_setting(tiny_recipe(cache__use=False))) as data:
        assert isinstance(data.batches(1), ImageBatches)
        assert data.views == 1
        assert data.cache_keys() == []


def test_activations_that_do_not_fit_are_said_and_images_are_trained_on(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "free_bytes", lambda folder: 1000)
    listening = Listening()
    with TrainingData(tiny_setting(tiny_recipe(cache__use=True), listening)) as data:
        assert isinstance(data.batches(1), ImageBatches)
        assert data.divided is None
    assert listening.lines[-1].startswith("training goes on without a cache of activations: the activations of the ")


def test_predictions_are_the_same_with_and_without_a_division(own_cache: Path) -> None:
    logits = []
    for use in (True, False):
        setting = tiny_setting(tiny_recipe(cache__use=use))
        with TrainingData(setting) as data, Silent().bar("test", 4, "img") as bar:
            assert (data.divided is not None) == use
            logits.append(data.predict(setting.dataset.split("test"), bar))
    assert logits[0].shape == (4, 2)
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def test_predictions_follow_the_weights() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True))
    with TrainingData(setting) as data, Silent().bar("test", 4, "img") as bar:
        before = data.predict(setting.dataset.split("test"), bar)
        with torch.no_grad():
            setting.backbone.model.get_parameter("fc.bias").add_(1)
        np.testing.assert_allclose(data.predict(setting.dataset.split("test"), bar), before + 1, rtol=1e-5, atol=1e-5)


def test_a_sample_is_what_a_stage_would_train_on(own_cache: Path) -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True))
    with TrainingData(setting) as data:
        images = data.train.load(range(3), setting.preprocessing)
        for stage in (1, 2):
            part, tensors = data.sample(stage, images)
            setting.backbone.model.eval()
            assert part.infer(*tensors).shape == (3, 2)
        assert not own_cache.exists()


def test_each_process_holds_its_part_of_the_images() -> None:
    setting = replace(tiny_setting(tiny_recipe()), group=Group(rank=1, world=2))
    with TrainingData(setting) as data:
        whole = setting.dataset.split("train")
        assert data.train.names == whole.names[1::2]
        assert data.train.targets.tolist() == whole.targets[1::2].tolist()
        assert data.train.fingerprint == f"{whole.fingerprint} part 1 of 2"
        assert len(data.validation) == 3


def test_some_images_of_a_split_are_a_split_that_says_which() -> None:
    split = tiny_setting(tiny_recipe()).dataset.split("train")
    part = chosen_of(split, np.array([3, 7]), "fold")
    assert part.names == ("train/3", "train/7")
    assert part.targets.tolist() == [1, 1]
    assert part.digests == (split.digests[3], split.digests[7])
    assert part.fingerprint == f"{split.fingerprint} fold"
    assert np.array_equal(np.asarray(part.sources[1]), np.asarray(split.sources[7]))


def test_a_fold_has_one_source_of_batches_for_every_stage() -> None:
    setting = tiny_setting(tiny_recipe())
    with TrainingData(setting) as data:
        source = data.image_batches()
        fold = FoldData(setting.dataset.split("test"), source)
        assert (fold.batches(1), fold.batches(2)) == (source, source)
