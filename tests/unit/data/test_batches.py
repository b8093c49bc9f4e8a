"""Batches: in order, bounded, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.data.batches import View, iterate_batches, load_views
from toolkit.data.dataset import Split, split_of_arrays
from toolkit.errors import ImageError, ToolkitError
from toolkit.preprocess import Preprocessing

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 6, 6, 3), dtype=np.uint8)
TARGETS = np.arange(23) % 3
SMALL = Preprocessing(height=6, width=6, resize="squash", interpolation="bilinear")


def split() -> Split:
    return split_of_arrays("train", IMAGES, TARGETS, tuple(str(index) for index in range(23)), ("a", "b", "c"))


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("toolkit-load")]


@pytest.mark.parametrize(("batch_size", "workers", "prefetch"), [(1, 1, 1), (5, 2, 4), (23, 2, 4), (100, 3, 2)])
def test_everything_in_the_given_order(batch_size: int, workers: int, prefetch: int) -> None:
    order = np.random.default_rng(1).permutation(23)
    batches = list(iterate_batches(split(), order, batch_size, SMALL, workers=workers, prefetch=prefetch))
    assert [len(images) for images, _, _ in batches][:-1] == [batch_size] * (len(batches) - 1)
    np.testing.assert_array_equal(np.concatenate([indices for _, _, indices in batches]), order)
    np.testing.assert_array_equal(np.concatenate([targets for _, targets, _ in batches]), TARGETS[order])
    np.testing.assert_array_equal(np.concatenate([images for images, _, _ in batches]), IMAGES[order])
    assert decoding_threads() == []


def test_empty_order() -> None:
    assert list(iterate_batches(split(), np.arange(0), 4, SMALL)) == []


def test_augmentation_sees_images_with_their_indices() -> None:
    seen = []

    def augment(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        seen.append(indices.tolist())
        return 255 - images

    batches = list(iterate_batches(split(), np.array([4, 2, 9]), 2, SMALL, view=View(augment=augment)))
    assert sorted(seen) == [[4, 2], [9]]
    np.testing.assert_array_equal(batches[0][0], 255 - IMAGES[[4, 2]])


def test_an_early_stop_ends_the_threads() -> None:
    batches = iterate_batches(split(), np.arange(23), 2, SMALL)
    next(batches)
    assert decoding_threads()
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert decoding_threads() == []


def test_at_most_prefetch_batches_are_decoded_ahead() -> None:
    started = []

    def augment(images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        started.append(int(indices[0]))
        return images

    batches = iterate_batches(split(), np.arange(23), 1, SMALL, view=View(augment=augment), workers=2, prefetch=3)
    next(batches)
    settle(lambda: len(started) == 3)
    assert sorted(started) == [0, 1, 2]
    next(batches)
    settle(lambda: len(started) == 4)
    assert sorted(started) == [0, 1, 2, 3]
    batches.close()  # type: ignore[attr-defined]  # it is a generator


def settle(reached: Callable[[], bool]) -> None:
    """Wait until a state is reached, then a little longer to see whether it is passed."""
    deadline = time.monotonic() + 60
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.03)


def test_a_file_that_vanishes_is_named_and_ends_the_threads(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(8)]
    for path in paths:
        Image.fromarray(IMAGES[0]).save(path)
    on_disk = Split("train", paths, TARGETS[:8], tuple(path.name for path in paths), "0" * 64)
    paths[5].unlink()
    batches = iterate_batches(on_disk, np.arange(8), 2, SMALL)
    assert [next(batches)[2].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ImageError, match=r"5\.png.*no such file"):
        next(batches)
    assert decoding_threads() == []


@pytest.mark.parametrize("name", ["batch_size", "workers", "prefetch"])
def test_counts_of_0_are_refused_at_the_call(name: str) -> None:
    counts = {"batch_size": 1, "workers": 1, "prefetch": 1, name: 0}
    with pytest.raises(ToolkitError, match=f"{name} is 0: give a whole number of 1 or more"):
        iterate_batches(split(), np.arange(3), counts.pop("batch_size"), SMALL, **counts)


def test_every_view_is_made_of_one_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.data import dataset

    decoded = []
    prepare_parts = dataset.prepare_parts

    def counted(source: object, *rest: object) -> np.ndarray:
        decoded.append(source)
        return prepare_parts(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "prepare_parts", counted)
    left = View(crop=lambda indices: [(0.0, 0.0, 0.5, 1.0) for _ in indices])
    dark = View(augment=lambda images, _: images // 2)
    indices = np.array([4, 2, 9])
    views = load_views(split(), indices, SMALL, [View(), left, dark, View(left.crop, dark.augment)])
    assert len(decoded) == 3
    np.testing.assert_array_equal(views[0], IMAGES[indices])
    np.testing.assert_array_equal(views[2], IMAGES[indices] // 2)
    np.testing.assert_array_equal(views[3], views[1] // 2)
    for image, source in zip(views[1], IMAGES[indices], strict=True):
        resized = Image.fromarray(source).resize((6, 6), Image.Resampling.BILINEAR, (0, 0, 3, 6))
        np.testing.assert_array_equal(image, np.asarray(resized))
