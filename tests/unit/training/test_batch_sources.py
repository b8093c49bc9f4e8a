from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import tiny_recipe, tiny_setting, tiny_split

from toolkit.backbones.deployable import Deployable
from toolkit.training.activations.divided_network import divide_network
from toolkit.training.activations.extraction import Extraction
from toolkit.training.batch_sources import ActivationBatches, EpochOrder, ImageBatches
from toolkit.training.training_data import TrainingData

ORDER = EpochOrder(np.array([3, 0, 2, 5, 4], np.int64), 2, (0, 1, 1))


def image_batches(**changes: object) -> ImageBatches:
    setting = tiny_setting(tiny_recipe(**changes))
    network = Deployable(setting.backbone.model, setting.backbone.normalization)
    return ImageBatches(setting, network, setting.dataset.split("train"), setting.dataset.split("validation"))


def test_an_epoch_in_batches_from_any_step() -> None:
    assert ORDER.steps == 3
    assert [batch.tolist() for batch in ORDER.batches(0)] == [[3, 0], [2, 5], [4]]
    assert [batch.tolist() for batch in ORDER.batches(1)] == [[2, 5], [4]]
    assert ORDER.batches(3) == []


def test_images_come_in_the_order_of_the_epoch() -> None:
    source, split = image_batches(), tiny_split("train", 18)
    batches = list(source.training(ORDER, 1))
    assert [targets.tolist() for _, targets, _ in batches] == [
        split.targets[[2, 5]].tolist(),
        split.targets[[4]].tolist(),
    ]
    ((first,), _, _) = batches[0]
    assert np.array_equal(first[0].numpy(), np.asarray(split.sources[2]))
    assert sum(len(images) for (images,) in source.validation()) == 6


def test_images_as_they_are_are_not_augmented() -> None:
    split = tiny_split("train", 18)
    batches = list(image_batches(augment__shift=0.5, augment__flip=True).view(0, ORDER))
    assert [len(images) for (images,) in batches] == [2, 2, 1]
    assert np.array_equal(batches[1][0][1].numpy(), np.asarray(split.sources[5]))


def test_what_is_drawn_for_an_image_does_not_depend_on_where_an_epoch_goes_on() -> None:
    changes = {
        "augment__shift": 0.3,
        "augment__flip": True,
        "augment__crop": 0.4,
        "augment__randaugment": 1,
        "augment__erase": 0.5,
    }
    whole = [images for (images,), _, _ in image_batches(**changes).training(ORDER, 0)]
    rest = [images for (images,), _, _ in image_batches(**changes).training(ORDER, 1)]
    assert all(torch.equal(one, other) for one, other in zip(whole[1:], rest, strict=True))
    other_epoch = EpochOrder(ORDER.indices, 2, (0, 1, 2))
    other = [images for (images,), _, _ in image_batches(**changes).training(other_epoch, 0)]
    assert not all(torch.equal(one, another) for one, another in zip(whole, other, strict=True))


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_kept_activations_are_what_the_images_would_become() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True))
    divided = divide_network(setting, None)
    assert divided is not None
    extraction = Extraction(setting, divided)
    train, validation = (extraction.activations(setting.dataset.split(name), 1) for name in ("train", "validation"))
    cut = divided.cut(2)
    source = ActivationBatches(cut, divided.places(cut), train, validation, setting.device)
    network = Deployable(setting.backbone.model.eval(), setting.backbone.normalization)
    images = ImageBatches(setting, network, setting.dataset.split("train"), setting.dataset.split("validation"))
    with torch.inference_mode():
        for (tensors, targets, _), (whole, same, _) in zip(
            source.training(ORDER, 0), images.training(ORDER, 0), strict=True
        ):
            assert torch.equal(targets, same)
            torch.testing.assert_close(source.part.infer(*tensors), images.part.infer(*whole), rtol=1e-4, atol=1e-5)
        ours = torch.cat([source.part.infer(*tensors) for tensors in source.validation()])
        theirs = torch.cat([images.part.infer(*tensors) for tensors in images.validation()])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for kept in (train, validation):
        kept.cache.close()


@pytest.mark.usefixtures("in_torch")
def test_each_epoch_draws_its_views(own_cache: Path) -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, augment__shift=0.3, cache__views=4))
    divided = divide_network(setting, None)
    assert divided is not None
    extraction = Extraction(setting, divided)
    train = extraction.activations(setting.dataset.split("train"), 4)
    cut = divided.cut(2)
    source = ActivationBatches(cut, divided.places(cut), train, train, setting.device)

    def epoch(number: int) -> torch.Tensor:
        return torch.cat(
            [tensors[0] for tensors, _, _ in source.training(EpochOrder(ORDER.indices, 2, (0, 2, number)), 0)]
        )

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))
    first = train.load(source.places, ORDER.indices, np.zeros_like(ORDER.indices), setting.device)
    assert torch.equal(torch.cat([tensors[0] for tensors in source.view(0, ORDER)]), first[0])
    train.cache.close()


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_view_of_all_training_images_comes_in_their_order() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, augment__shift=0.3, cache__views=2))
    with TrainingData(setting) as data:
        source, images = data.batches(2), data.image_batches(2)
        assert (source.views, images.views) == (2, 1)
        with torch.inference_mode():
            plain, shifted = (torch.cat([source.part.infer(*each) for each in source.view(view)]) for view in (0, 1))
            whole = torch.cat([images.part.infer(*each) for each in images.view(0)])
    assert len(whole) == 18
    torch.testing.assert_close(plain, whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, shifted, rtol=1e-3)


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_fold_trains_on_its_images_and_is_looked_at_on_the_others() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, augment__shift=0.3, cache__views=2))
    with TrainingData(setting) as data:
        source = data.batches(2)
        assert isinstance(source, ActivationBatches)
        trained, held = np.array([1, 4, 5, 9, 17]), np.array([0, 16])
        fold = source.fold(trained, held)
        (everything,) = source.view(0)
        (own,) = fold.view(0)
        for ours, theirs in zip(own, everything, strict=True):
            assert torch.equal(ours, theirs[trained])
        (looked_at,) = fold.validation()
        for ours, theirs in zip(looked_at, everything, strict=True):
            assert torch.equal(ours, theirs[held])
        batches = list(fold.training(EpochOrder(np.array([4, 0]), 2, (0, 1, 1)), 0))
        assert [batch.targets.tolist() for batch in batches] == [[1, 1]]
        shifted = torch.cat([each[0] for each in source.view(1)])
        candidates = (everything[0][[17, 1]], shifted[[17, 1]])
        for row in range(2):
            assert any(torch.equal(batches[0].tensors[0][row], candidate[row]) for candidate in candidates)
        # What it is taken from is as it was, and a part of a part is one of the whole.
        assert len(next(iter(source.validation()))[0]) == 6
        part = fold.fold(np.array([3, 2]), np.array([1]))
        (own,) = part.view(0)
        assert torch.equal(own[0], everything[0][[9, 5]])


@pytest.mark.usefixtures("in_torch", "own_cache")
def test_a_part_of_what_has_new_views_has_those_of_its_images() -> None:
    setting = tiny_setting(tiny_recipe(cache__use=True, cache__refresh=0.5, augment__shift=0.3))
    with TrainingData(setting) as data:
        source = data.batches(2)
        assert isinstance(source, ActivationBatches)
        drawn = data.draw_anew(source, (0, 2, 1))
        assert drawn is not None
        kept, new = (torch.cat([tensors[0] for tensors in each.view(0)]) for each in (source, drawn))
        assert not torch.equal(kept, new)
        (part,) = drawn.fold(np.arange(17, -1, -1), np.array([0])).view(0)
        assert torch.equal(part[0], new.flip(0))
