"""Augmentation: what was asked for, nothing else, and the same whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop

from toolkit.data.augment import default_views, epoch_view, make_augment, make_crop, make_view
from toolkit.data.batches import View, load_ahead
from toolkit.recipe import AugmentRecipe

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 10, 8, 3), dtype=np.uint8)
INDICES = np.arange(100, 132)


def recipe(**fields: object) -> AugmentRecipe:
    return AugmentRecipe.model_validate(fields)


def test_nothing_asked_is_none() -> None:
    assert make_augment(recipe(), 0, 0) is None


def test_flip_mirrors_about_half_of_them_and_changes_nothing_else() -> None:
    augment = make_augment(recipe(flip=True), 0, 0)
    assert augment is not None
    changed = augment(IMAGES, INDICES)
    mirrored = [np.array_equal(new, old[:, ::-1]) for new, old in zip(changed, IMAGES, strict=True)]
    kept = [np.array_equal(new, old) for new, old in zip(changed, IMAGES, strict=True)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 8 <= sum(mirrored) <= 24


def test_shift_moves_by_whole_pixels_and_repeats_the_edge() -> None:
    augment = make_augment(recipe(shift=0.25), 0, 0)
    assert augment is not None
    found = set()
    for new, old in zip(augment(IMAGES, INDICES), IMAGES, strict=True):
        matches = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-2, 3)
            if np.array_equal(new, old[np.clip(np.arange(10) - down, 0, 9)][:, np.clip(np.arange(8) - right, 0, 7)])
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert len(found) > 12
    assert {abs(down) for down, _ in found} == {0, 1, 2, 3}
    assert {abs(right) for _, right in found} == {0, 1, 2}


def test_batches_and_order_make_no_difference() -> None:
    augment = make_augment(recipe(flip=True, shift=0.2), 5, 3)
    assert augment is not None
    whole = augment(IMAGES, INDICES)
    shuffled = np.random.default_rng(1).permutation(32)
    for piece in np.split(shuffled, [5, 6, 20]):
        np.testing.assert_array_equal(augment(IMAGES[piece], INDICES[piece]), whole[piece])


@pytest.mark.parametrize(("seed", "epoch"), [(1, 0), (0, 1)])
def test_seed_and_epoch_change_the_draw(seed: int, epoch: int) -> None:
    first, other = (
        make_augment(recipe(flip=True, shift=0.2), 0, 0),
        make_augment(recipe(flip=True, shift=0.2), seed, epoch),
    )
    assert first is not None
    assert other is not None
    assert not np.array_equal(first(IMAGES, INDICES), other(IMAGES, INDICES))


def test_the_input_is_not_changed() -> None:
    before = IMAGES.copy()
    augment = make_augment(recipe(flip=True, shift=0.5), 0, 0)
    assert augment is not None
    augment(IMAGES, INDICES)
    np.testing.assert_array_equal(IMAGES, before)


def parts(smallest: float, count: int, seed: int = 0, epoch: int = 0) -> np.ndarray:
    crop = make_crop(recipe(crop=smallest), seed, epoch)
    assert crop is not None
    return np.array(crop(np.arange(count)))


def test_no_crop_is_none() -> None:
    assert make_crop(recipe(), 0, 0) is None
    assert make_view(recipe(crop=0.2), 0, 0) == View()


def test_a_crop_is_drawn_as_torchvision_draws_it() -> None:
    """Areas and ratios have the same distribution: some areas are too wide for a ratio, and are drawn again."""
    count = 2000
    left, top, right, bottom = parts(0.08, count).T
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 1
    width, height = right - left, bottom - top
    assert (width * height).min() >= 0.08 - 1e-9
    ratios = width / height
    assert (ratios.min(), ratios.max()) == pytest.approx((3 / 4, 4 / 3), abs=0.01)
    official = RandomResizedCrop(1000, scale=(0.08, 1.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = [official.make_params([torch.empty(3, 1000, 1000, device="meta")]) for _ in range(count)]
    areas = np.array([each["width"] * each["height"] for each in theirs]) / 1e6
    for ours, other in (
        (width * height, areas),
        (np.log(ratios), np.log([each["width"] / each["height"] for each in theirs])),
        (left, np.array([each["left"] for each in theirs]) / 1e3),
        (top, np.array([each["top"] for each in theirs]) / 1e3),
    ):
        error = np.hypot(ours.std(), np.std(other)) / count**0.5
        assert abs(ours.mean() - np.mean(other)) < 4 * error
        assert ours.std() == pytest.approx(np.std(other), rel=0.1)


def test_a_crop_depends_on_seed_epoch_and_index_alone() -> None:
    crop = make_crop(recipe(crop=0.3), 5, 3)
    assert crop is not None
    whole = parts(0.3, 20, 5, 3)
    np.testing.assert_array_equal(crop(np.array([7, 7, 2])), whole[[7, 7, 2]])
    assert len(np.unique(whole, axis=0)) > 15
    for other in (parts(0.3, 20, 6, 3), parts(0.3, 20, 5, 4)):
        assert not np.array_equal(whole, other)


def test_a_view_is_cropped_before_it_is_mirrored() -> None:
    view = make_view(recipe(flip=True, crop=0.3), 0, 1)
    assert view.crop is not None
    assert view.augment is not None
    np.testing.assert_array_equal(view.augment(IMAGES, INDICES), IMAGES[:, :, ::-1])
    other = make_view(recipe(crop=0.3), 0, 1)
    assert other.augment is None
    assert other.crop is not None
    assert list(other.crop(INDICES)) == list(view.crop(INDICES))


LARGE = np.random.default_rng(1).integers(0, 256, (200, 20, 20, 3), dtype=np.uint8)


def test_a_rectangle_is_filled_with_the_mean_colour() -> None:
    augment = make_augment(recipe(erase=1.0, erase_area=0.3), 0, 0)
    assert augment is not None
    areas = []
    for new, old in zip(augment(LARGE, np.arange(200)), LARGE, strict=True):
        rows, columns = (np.flatnonzero((new != old).any(axis=(axis, 2))) for axis in (1, 0))
        box = new[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (box == np.rint(old.reshape(-1, 3).mean(axis=0))).all()
        kept = new.copy()
        kept[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 0
        original = old.copy()
        original[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 0
        np.testing.assert_array_equal(kept, original)
        areas.append(box.shape[0] * box.shape[1] / 400)
    assert 0.005 < min(areas) < 0.06
    assert 0.25 < max(areas) < 0.36
    assert np.mean(areas) == pytest.approx(0.16, abs=0.03)


def test_erasing_has_its_probability() -> None:
    augment = make_augment(recipe(erase=0.3), 0, 0)
    assert augment is not None
    changed = [not np.array_equal(new, old) for new, old in zip(augment(LARGE, np.arange(200)), LARGE, strict=True)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.1)


def test_teacher_and_student_of_other_sizes_see_the_same_rectangle() -> None:
    def erased(side: int) -> np.ndarray:
        images = np.zeros((50, side, side, 3), np.uint8)
        augment = make_augment(recipe(erase=1.0), 0, 0)
        assert augment is not None
        images[:] = np.arange(side, dtype=np.uint8)[:, None, None]
        found = []
        for new, old in zip(augment(images, np.arange(50)), images, strict=True):
            rows, columns = (np.flatnonzero((new != old).any(axis=(axis, 2))) for axis in (1, 0))
            found.append((rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
        return np.array(found) / side

    # One row may hold the mean colour already, and looks unchanged.
    assert np.abs(erased(60) - erased(200)).max() <= 2 / 60


def test_what_is_asked_beside_it_does_not_change_a_draw() -> None:
    shifted = make_augment(recipe(shift=0.2), 0, 1)
    both = make_augment(recipe(shift=0.2, erase=1.0), 0, 1)
    assert shifted is not None
    assert both is not None
    alone, erased = shifted(LARGE, np.arange(200)), both(LARGE, np.arange(200))
    same = (alone == erased).all(axis=3).mean(axis=(1, 2))
    assert same.min() > 0.6


def test_an_epoch_is_all_of_it_and_says_what_it_draws() -> None:
    everything = recipe(flip=True, shift=0.1, crop=0.3, randaugment=2, erase=0.5)
    first, again, other = (epoch_view(everything, seed) for seed in ((0, 2, 1), (0, 2, 1), (0, 2, 2)))
    assert first.crop is not None
    assert again.crop is not None
    assert other.crop is not None
    assert list(first.crop(INDICES)) == list(again.crop(INDICES)) != list(other.crop(INDICES))
    assert first.augment is not None
    assert again.augment is not None
    assert other.augment is not None
    np.testing.assert_array_equal(first.augment(LARGE, np.arange(200)), again.augment(LARGE, np.arange(200)))
    assert not np.array_equal(first.augment(LARGE, np.arange(200)), other.augment(LARGE, np.arange(200)))
    assert epoch_view(recipe(mixup=0.2), (0, 2, 1)) == View()


def test_no_global_generator_is_drawn_from_or_set_by_any_number_of_threads() -> None:
    augment = make_augment(recipe(flip=True, shift=0.1, randaugment=3, erase=0.5), 0, 0)
    assert augment is not None
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    pieces = np.split(np.arange(200), 20)
    alone = [augment(LARGE[piece], piece) for piece in pieces]
    together = list(load_ahead(lambda piece: augment(LARGE[piece], piece), pieces, workers=4, prefetch=8))
    np.testing.assert_array_equal(np.concatenate(alone), np.concatenate(together))
    assert torch.equal(before[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])


def test_what_changes_images_is_kept_in_several_views() -> None:
    assert [default_views(recipe(**fields)) for fields in ({}, {"mixup": 0.2}, {"cutmix": 1.0})] == [1, 1, 1]
    changes: tuple[dict[str, object], ...] = (
        {"flip": True},
        {"shift": 0.1},
        {"crop": 0.5},
        {"randaugment": 1},
        {"erase": 0.1},
    )
    assert [default_views(recipe(**fields)) for fields in changes] == [4] * 5
