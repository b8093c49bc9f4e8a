"""Augmentation: what was asked for, nothing else, and the same whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.data.augment import make_augment
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
