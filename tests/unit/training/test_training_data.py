from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import Listening, tiny_recipe, tiny_setting

from toolkit.backbones import set_trainable
from toolkit.backbones.deployable import Deployable
from toolkit.progress import Silent
from toolkit.training.activations import extraction
from toolkit.training.activations.catalogue import entries
from toolkit.training.batch_sources import ActivationBatches, EpochOrder, ImageBatches
from toolkit.training.group import Group
from toolkit.training.step import make_learner, training_step
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


def test_a_fold_has_the_sources_that_it_was_given_and_draws_nothing_anew(own_cache: Path) -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, cache__refresh=0.5, augment__shift=0.3, cache__views=2))
    with TrainingData(setting) as data:
        sources = {stage: batches for stage in (1, 2) if isinstance(batches := data.batches(stage), ActivationBatches)}
        fold = FoldData(setting.dataset.split("test"), sources)
        assert [fold.batches(stage) for stage in (1, 2)] == [sources[1], sources[2]]
        assert fold.draw_anew(sources[2], (0, 2, 1)) is None
        assert [folder.name.endswith(".part") for folder in own_cache.iterdir()] == [False, False]


def test_one_division_serves_stages_that_train_more_and_more() -> None:
    more = {"stage3__epochs": 1, "stage3__unfreeze": ["stem.1", "body"]}
    with TrainingData(tiny_setting(tiny_recipe(cache__use=True, **more))) as data:
        assert data.serves((2, 3))
    other = {"stage3__epochs": 1, "stage3__unfreeze": ["stem.1"]}
    with TrainingData(tiny_setting(tiny_recipe(cache__use=True, **other))) as data:
        assert not data.serves((2, 3))
        data.batches(2)
        assert data.serves((2,))
        assert not data.serves((2, 3))
    with TrainingData(tiny_setting(tiny_recipe())) as data:
        assert not data.serves((2,))


def loss_of_a_step(seed: int, *, cache: bool, rate: float) -> float:
    """Return the loss of the first step of stage 2, of weights that no draw has changed."""
    setting = tiny_setting(tiny_recipe(cache__use=cache, train__drop_path=rate, train__dropout=rate, stage1__epochs=0))
    with TrainingData(setting) as data:
        batches = data.batches(2)
        assert isinstance(batches, ActivationBatches) == cache
        stage = setting.recipe.stage2
        parts = set_trainable(setting.backbone, stage.unfreeze)
        learner = make_learner(setting, stage, parts, batches.part.train)
        tensors, targets, _ = next(iter(batches.training(EpochOrder(np.arange(8), 8, (0, 2, 1)), 0)))
        return training_step(learner, tensors, targets, np.random.SeedSequence(seed)).loss.item()


def test_with_and_without_a_cache_the_same_is_left_out() -> None:
    kept, images = ([loss_of_a_step(seed, cache=cache, rate=0.5) for seed in range(3)] for cache in (True, False))
    assert kept == pytest.approx(images, rel=1e-5)
    assert len(set(kept)) == 3
    assert kept != pytest.approx([loss_of_a_step(seed, cache=True, rate=1e-9) for seed in range(3)], rel=1e-3)


@pytest.mark.parametrize("cache", [True, False])
def test_predictions_are_those_of_what_is_exported(cache: bool, own_cache: Path) -> None:
    predicted = []
    for flip in (True, False):
        setting = tiny_setting(tiny_recipe(cache__use=cache, model__flip_test=flip))
        test = setting.dataset.split("test")
        with TrainingData(setting) as data, Silent().bar("test", 4, "img") as bar:
            predicted.append(data.predict(test, bar))
        deployable = Deployable(setting.backbone.model.eval(), setting.backbone.normalization, flip_test=flip)
        with torch.inference_mode():
            logits, _ = deployable(torch.from_numpy(test.load(range(4), setting.preprocessing)))
        np.testing.assert_allclose(predicted[-1], logits.numpy(), rtol=1e-4, atol=1e-5)
    assert not np.allclose(predicted[0], predicted[1], rtol=1e-4, atol=1e-5)


def test_where_another_process_has_no_room_for_new_views_none_has(own_cache: Path) -> None:
    class Two(Group):
        """The other one is out of room as soon as it is told."""

        full = False

        def sum(self, values: Sequence[float]) -> list[float]:
            return [value + Two.full for value in values]

    listening = Listening()
    recipe = tiny_recipe(cache__use=True, cache__refresh=0.5, augment__shift=0.3, cache__views=2)
    setting = replace(tiny_setting(recipe, listening), group=Two())
    with TrainingData(setting) as data:
        batches = data.batches(2)
        assert isinstance(batches, ActivationBatches)
        assert data.draw_anew(batches, (0, 2, 1)) is not None
        assert len([folder for folder in own_cache.iterdir() if folder.name.endswith(".part")]) == 1
        Two.full = True
        assert data.draw_anew(batches, (0, 2, 2)) is None
        assert not [folder for folder in own_cache.iterdir() if folder.name.endswith(".part")]
        assert listening.lines[-1] == (
            "training goes on without new views, on those that are kept: another process cannot keep its own"
        )


def test_a_division_for_the_last_stage_alone_makes_what_that_stage_takes() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True))
    with TrainingData(setting) as data:
        assert data.divided is not None
        assert data.last_places() == data.divided.places(data.divided.cut(2))
        assert len(data.last_places()) < len(data.divided.tensors)
    setting = tiny_setting(tiny_recipe(cache__use=True, stage1__unfreeze=1, stage2__unfreeze=0))
    with TrainingData(setting) as data:
        assert data.divided is not None
        assert data.last_places() == list(range(len(data.divided.tensors)))
    with TrainingData(tiny_setting(tiny_recipe())) as data:
        assert data.last_places() == []
