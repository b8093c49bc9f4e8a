"""The embedded data: real, scaled, divided, and honest about its fingerprint."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from toolkit.data import Dataset, load_dataset
from toolkit.data.digits import DigitsSource
from toolkit.errors import DataError, MissingDependencyError
from toolkit.preprocess import Preprocessing
from toolkit.recipe import DataRecipe


def load(seed: int = 0, splits: tuple[str, ...] = ("train", "validation", "test"), **fields: object) -> Dataset:
    return load_dataset(DataRecipe.model_validate({"source": "digits", **fields}), seed, splits=splits)


def test_pictures_and_labels_are_scikit_learns() -> None:
    data = load()
    bunch = load_digits()
    assert data.labels == tuple("0123456789")
    seen = 0
    for split in data.splits.values():
        for source, target, name in zip(split.sources, split.targets, split.names, strict=True):
            index = int(name.removeprefix("digits/"))
            np.testing.assert_array_equal(source, np.rint(bunch.images[index] * 255 / 16))
            assert isinstance(source, np.ndarray)
            assert source.dtype == np.uint8
            assert target == bunch.target[index]
            seen += 1
    assert seen == 1797


def test_splits_share_no_picture() -> None:
    data = load()
    for content in (lambda split: set(split.names), lambda split: {source.tobytes() for source in split.sources}):
        test = content(data.split("test"))
        assert not test & content(data.split("train"))
        assert not test & content(data.split("validation"))
        assert not content(data.split("train")) & content(data.split("validation"))


def test_summary() -> None:
    summary = load(test_fraction=0.2, validation_fraction=0.1).summary()
    assert summary.source == "digits"
    assert {name: split.images for name, split in summary.splits.items()} == {
        "train": 1294,
        "validation": 144,
        "test": 359,
    }
    assert summary.skipped == ()
    for split in summary.splits.values():
        assert sum(split.per_class) == split.images
        assert min(split.per_class) > 0
        assert len(split.fingerprint) == 64


def test_one_split_is_the_same_as_in_all_of_them() -> None:
    alone, together = load(splits=("test",)), load()
    assert list(alone.splits) == ["test"]
    assert alone.split("test").names == together.split("test").names
    assert alone.split("test").fingerprint == together.split("test").fingerprint


def test_seed_decides() -> None:
    assert load(1).split("test").fingerprint == load(1).split("test").fingerprint
    assert load(1).split("test").fingerprint != load(2).split("test").fingerprint


def test_load_prepares_pixels() -> None:
    split = load(splits=("test",)).split("test")
    images = split.load([3, 0], Preprocessing(height=8, width=8, resize="squash", interpolation="bilinear"))
    assert images.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(images[0, ..., 1], split.sources[3])
    np.testing.assert_array_equal(images[1, ..., 1], split.sources[0])


def test_scikit_learn_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r"toolkit\[train\]"):
        load()


def test_it_says_whether_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = DataRecipe.model_validate({"source": "digits"})
    assert DigitsSource().unavailable(recipe) is None
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert "scikit-learn, which is not installed" in (DigitsSource().unavailable(recipe) or "")


def test_unknown_split() -> None:
    with pytest.raises(DataError, match="no split 'val': give train, validation, test"):
        load(splits=("val",))


def test_unknown_source() -> None:
    with pytest.raises(DataError, match=r"'cifar100'.*'cifar10', 'digits', .*or the path"):
        load(source="cifar100")
