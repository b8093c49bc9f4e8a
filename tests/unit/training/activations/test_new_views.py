from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from activation_caches import make_key, names

from toolkit.recipe import CacheRecipe
from toolkit.training.activations.cache import ActivationCache, CacheWriter
from toolkit.training.activations.new_views import NewViews, chosen_images


def test_which_images_is_decided_by_the_seed_of_the_epoch() -> None:
    chosen = chosen_images((0, 2, 1), 100, 30)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == 30
    assert chosen.dtype == np.int64
    assert chosen_images((0, 2, 1), 100, 30).tolist() == chosen.tolist()
    for other in ((1, 2, 1), (0, 2, 2), (0, 2, 1, 1)):
        assert chosen_images(other, 100, 30).tolist() != chosen.tolist()
    assert chosen_images((0, 2, 1), 100, 100).tolist() == list(range(100))


def test_over_the_epochs_every_image_gets_its_turn() -> None:
    turns = np.zeros(100)
    for epoch in range(1, 201):
        turns[chosen_images((0, 2, epoch), 100, 30)] += 1
    assert turns.sum() == 6000
    assert turns.min() > 35
    assert turns.max() < 85


@pytest.mark.parametrize(("share", "images", "count"), [(0.0, 10, 0), (0.5, 10, 5), (1.0, 7, 7), (0.01, 10, 1)])
def test_a_share_of_the_images(share: float, images: int, count: int) -> None:
    assert CacheRecipe.model_validate({"refresh": share}).new_views(images) == count


def written(root: Path, first: int, rows: int, **changes: object) -> ActivationCache:
    """Return a cache that nobody else finds, whose rows count from a number on."""
    key = make_key(rows=rows, tensors=(("maps", (2,)), ("pool", (3,))), **changes)
    with CacheWriter(root, key) as writer:
        values = np.arange(first, first + rows, dtype=np.float32)[:, None]
        writer.append([values.repeat(2, axis=1), 1000 + values.repeat(3, axis=1)])
        return writer.hand_over()


def test_new_views_stand_in_for_those_that_are_kept(tmp_path: Path) -> None:
    kept, new = written(tmp_path, 0, 8, views=2), written(tmp_path, 100, 2)
    places = np.array([-1, 1, -1, 0])
    images = np.array([3, 0, 1, 2, 3])
    rows = images * 2 + np.array([1, 1, 0, 0, 0])
    assert NewViews(new, places, (0, 1)).read(0, images, kept, rows)[:, 0].tolist() == [100, 1, 101, 4, 100]
    assert NewViews(new, places, (0, 1)).read(1, images, kept, rows)[:, 2].tolist() == [1100, 1001, 1101, 1004, 1100]
    only_pool = make_key(rows=2, tensors=(("pool", (3,)),))
    with CacheWriter(tmp_path, only_pool) as writer:
        writer.append([np.full((2, 3), 7, np.float32)])
        pool = writer.hand_over()
    assert NewViews(pool, places, (1,)).read(1, images, kept, rows)[:, 2].tolist() == [7, 1001, 7, 1004, 7]
    for cache in (kept, new, pool):
        cache.close()


def test_what_is_wider_stays_wide(tmp_path: Path) -> None:
    kept, new = written(tmp_path, 0, 2), written(tmp_path, 70_000, 1, dtype="float32")
    both = NewViews(new, np.array([0, -1]), (0, 1)).read(0, np.array([0, 1]), kept, np.array([0, 1]))
    assert both.dtype == np.float32
    assert both[:, 0].tolist() == [70_000, 1]
    kept.close()
    new.close()


def test_all_or_none_may_be_new(tmp_path: Path) -> None:
    kept, new = written(tmp_path, 0, 4), written(tmp_path, 100, 2)
    views = NewViews(new, np.array([0, 1, -1, -1]), (0, 1))
    for images, wanted in (([1, 0], [101, 100]), ([3, 2], [3, 2]), ([], [])):
        chosen = np.array(images, np.int64)
        assert views.read(0, chosen, kept, chosen)[:, 0].tolist() == wanted
    kept.close()
    new.close()


def test_once_closed_nothing_is_left_of_them(tmp_path: Path) -> None:
    views = NewViews(written(tmp_path, 0, 4), np.arange(4), (0, 1))
    assert [name.endswith(".part") for name in names(tmp_path)] == [True]
    views.close()
    assert names(tmp_path) == []
