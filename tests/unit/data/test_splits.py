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
