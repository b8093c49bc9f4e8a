"""The division.

Exact counts, every class everywhere, disjoint, and independent of everything but listing, recipe and seed.
"""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.data.splits import allocate, divide
from toolkit.errors import DataError
from toolkit.recipe import DataRecipe

LABELS = ("ant", "bee", "cat")
TARGETS = np.repeat(np.arange(3), [60, 30, 10])


def recipe(**fields: object) -> DataRecipe:
    return DataRecipe.model_validate(fields)


def per_class(targets: np.ndarray, indices: np.ndarray) -> list[int]:
    return np.bincount(targets[indices], minlength=3).tolist()


def test_cuts_are_stratified_disjoint_and_complete() -> None:
    parts = divide({"train": TARGETS}, LABELS, recipe(test_fraction=0.2, validation_fraction=0.25), 0)
    assert {part.pool for part in parts.values()} == {"train"}
    assert per_class(TARGETS, parts["test"].indices) == [12, 6, 2]
    assert per_class(TARGETS, parts["validation"].indices) == [12, 6, 2]
    together = np.concatenate([part.indices for part in parts.values()])
    assert sorted(together.tolist()) == list(range(100))
    assert all(np.all(np.diff(part.indices) > 0) for part in parts.values())


def test_same_seed_same_division_and_another_seed_another() -> None:
    first, again, other = (divide({"train": TARGETS}, LABELS, recipe(), seed) for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(first[name].indices, again[name].indices)
    assert not np.array_equal(first["test"].indices, other["test"].indices)


def test_pools_of_the_source_are_kept() -> None:
    pools = {"train": TARGETS, "validation": TARGETS[::2], "test": TARGETS[::5]}
    parts = divide(pools, LABELS, recipe(), 0)
    for name, part in parts.items():
        assert part.pool == name
        np.testing.assert_array_equal(part.indices, np.arange(len(pools[name])))


def test_validation_is_always_cut_from_train_and_never_from_test() -> None:
    parts = divide({"train": TARGETS, "test": TARGETS}, LABELS, recipe(), 0)
    assert parts["validation"].pool == "train"
    assert not set(parts["validation"].indices) & set(parts["train"].indices)


def test_limits_are_exact_stratified_and_taken_before_validation() -> None:
    parts = divide(
        {"train": TARGETS, "test": TARGETS}, LABELS, recipe(train_limit=50, test_limit=20, validation_fraction=0.2), 0
    )
    assert per_class(TARGETS, parts["test"].indices) == [12, 6, 2]
    assert per_class(TARGETS, np.concatenate([parts["train"].indices, parts["validation"].indices])) == [30, 15, 5]
    assert len(parts["validation"].indices) == 10


def test_a_limit_above_the_size_changes_nothing() -> None:
    limited = divide({"train": TARGETS, "test": TARGETS}, LABELS, recipe(train_limit=1000, test_limit=1000), 0)
    plain = divide({"train": TARGETS, "test": TARGETS}, LABELS, recipe(), 0)
    for name in plain:
        np.testing.assert_array_equal(limited[name].indices, plain[name].indices)


def test_the_train_limit_does_not_move_the_test_split() -> None:
    few, all_of_them = (divide({"train": TARGETS}, LABELS, recipe(**fields), 0) for fields in ({"train_limit": 20}, {}))
    np.testing.assert_array_equal(few["test"].indices, all_of_them["test"].indices)


def test_every_class_is_in_every_part_even_if_its_share_rounds_to_nothing() -> None:
    targets = np.repeat(np.arange(3), [3, 3, 500])
    parts = divide({"train": targets}, LABELS, recipe(test_fraction=0.01, validation_fraction=0.01), 0)
    for part in parts.values():
        assert min(per_class(targets, part.indices)) >= 1
    greedy = divide({"train": targets}, LABELS, recipe(test_fraction=0.99, validation_fraction=0.99), 0)
    for part in greedy.values():
        assert min(per_class(targets, part.indices)) >= 1


@pytest.mark.parametrize(
    ("pools", "least"),
    [({}, 3), ({"test": TARGETS}, 2), ({"validation": TARGETS}, 2), ({"validation": TARGETS, "test": TARGETS}, 1)],
)
def test_too_few_images_of_a_class_are_named(pools: dict[str, np.ndarray], least: int) -> None:
    enough = np.repeat(np.arange(3), [5, least, 5])
    divide({"train": enough, **pools}, LABELS, recipe(), 0)
    short = np.repeat(np.arange(3), [5, least - 1, 5])
    with pytest.raises(DataError, match=rf"class 'bee' has {least - 1}, and each class needs at least {least}"):
        divide({"train": short, **pools}, LABELS, recipe(), 0)


@pytest.mark.parametrize(("field", "limit", "needed"), [("train_limit", 5, 6), ("test_limit", 2, 3)])
def test_limits_below_one_image_per_class(field: str, limit: int, needed: int) -> None:
    with pytest.raises(DataError, match=rf"{field} is {limit}, too small for 3 classes: give at least {needed}"):
        divide({"train": TARGETS, "test": TARGETS}, LABELS, recipe(**{field: limit}), 0)
    parts = divide({"train": TARGETS, "test": TARGETS}, LABELS, recipe(**{field: needed}), 0)
    assert all(min(per_class(TARGETS, part.indices)) >= 1 for part in parts.values())


def test_allocate_is_exact_within_its_bounds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(2, 40, rng.integers(1, 9))
        total = int(rng.integers(0, counts.sum() + 5))
        shares = allocate(counts, total, 1, 1)
        assert shares.sum() == min(max(total, len(counts)), counts.sum() - len(counts))
        assert np.all(shares >= 1)
        assert np.all(shares <= counts - 1)


def copies(*pairs: tuple[int, int]) -> np.ndarray:
    """Return what is the first of each content of 100 images, given which image is a copy of which."""
    first = np.arange(100)
    for copy, original in pairs:
        first[copy] = original
    return first


@pytest.mark.parametrize("seed", range(8))
def test_copies_stay_in_one_part_and_all_images_are_used(seed: int) -> None:
    first = copies(*((index, index - 20) for index in range(20, 40)), *((index, 61) for index in range(62, 75)))
    parts = divide({"train": TARGETS}, LABELS, recipe(), seed, first)
    for part in parts.values():
        assert set(np.flatnonzero(np.isin(first, first[part.indices]))) == set(part.indices.tolist())
        assert np.all(np.diff(part.indices) > 0)
        assert min(per_class(TARGETS, part.indices)) >= 1
    together = np.concatenate([part.indices for part in parts.values()])
    assert sorted(together.tolist()) == list(range(100))


@pytest.mark.parametrize("fields", [{}, {"train_limit": 50, "test_limit": 10}])
def test_images_that_all_differ_are_divided_as_ever(fields: dict[str, int]) -> None:
    plain = divide({"train": TARGETS}, LABELS, recipe(**fields), 3)
    told = divide({"train": TARGETS}, LABELS, recipe(**fields), 3, np.arange(100))
    for name in plain:
        np.testing.assert_array_equal(plain[name].indices, told[name].indices)


def test_a_limit_counts_different_images() -> None:
    parts = divide({"train": TARGETS}, LABELS, recipe(train_limit=30), 0, copies((1, 0), (3, 2), (5, 4)))
    together = np.concatenate([parts[name].indices for name in ("train", "validation")])
    assert len(together) == 30
    assert not {1, 3, 5} & set(together.tolist())


def test_a_picture_in_two_classes_stays_in_one_part() -> None:
    first = copies((70, 5), (71, 6), (95, 7))
    for seed in range(10):
        parts = divide({"train": TARGETS}, LABELS, recipe(test_fraction=0.5), seed, first)
        for copy, original in ((70, 5), (71, 6), (95, 7)):
            assert len([part for part in parts.values() if {copy, original} & set(part.indices.tolist())]) == 1


def test_a_class_of_copies_is_too_small() -> None:
    targets = np.repeat(np.arange(3), [5, 5, 5])
    first = np.array([0, 1, 2, 3, 4, 5, 5, 5, 5, 9, 10, 11, 12, 13, 14])
    with pytest.raises(DataError, match="class 'bee' has 2 beside 3 copies, and each class needs at least 3"):
        divide({"train": targets}, LABELS, recipe(), 0, first)


def test_splits_of_ones_own_keep_their_copies() -> None:
    pools = {"train": TARGETS, "validation": TARGETS, "test": TARGETS}
    parts = divide(pools, LABELS, recipe(), 0, np.zeros(100, np.int64))
    np.testing.assert_array_equal(parts["train"].indices, np.arange(100))
