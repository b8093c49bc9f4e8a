"""Subsets of an image folder."""

import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.subset import make_subset, shares


def links(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


@pytest.mark.parametrize(
    ("available", "total", "expected"),
    [
        ({"a": 50, "b": 50}, 10, [5, 5]),
        ({"a": 75, "b": 25}, 8, [6, 2]),
        ({"a": 10, "b": 10, "c": 10}, 10, [4, 3, 3]),
        ({"a": 98, "b": 1, "c": 1}, 4, [2, 1, 1]),
        ({"a": 3, "b": 2}, 5, [3, 2]),
    ],
)
def test_shares_follow_the_classes(available, total, expected):
    assert list(shares(available, total).values()) == expected


@pytest.mark.parametrize("total", [1, 6])
def test_shares_that_cannot_be_are_one_sentence(total):
    with pytest.raises(
        BenchmarkError, match=f"^{total} images cannot be drawn from 5 images of 2 classes: give 2 to 5.$"
    ):
        shares({"a": 3, "b": 2}, total)


def test_subset_is_stratified_links_to_the_images(images, tmp_path):
    subset = make_subset(images, tmp_path / "subset", 6, 4, seed=0)
    assert [
        len(list((subset.folder / place).iterdir()))
        for place in ("train/cat", "train/sea lion", "test/cat", "test/sea lion")
    ] == [4, 2, 2, 2]
    for name in links(subset.folder):
        assert (subset.folder / name).is_symlink()
        assert (subset.folder / name).read_bytes() == (images / name).read_bytes()
    assert (subset.train, subset.test, subset.classes) == (6, 4, 2)


def test_subset_is_fixed_by_its_seed_and_grows_with_its_size(images, tmp_path):
    first, again, other, larger = (
        make_subset(images, tmp_path / name, train, 4, seed)
        for name, train, seed in (("a", 6, 0), ("b", 6, 0), ("c", 6, 1), ("d", 9, 0))
    )
    assert links(first.folder) == links(again.folder)
    assert first.fingerprint == again.fingerprint
    assert other.fingerprint != first.fingerprint
    assert set(links(first.folder)) < set(links(larger.folder))


def test_subsets_can_be_tested_on_the_same_images(images, tmp_path):
    first, other, others_own = (
        links(make_subset(images, tmp_path / name, 6, 4, seed, test_seed).folder)
        for name, seed, test_seed in (("a", 0, 0), ("b", 3, 0), ("c", 3, None))
    )
    of = [{name for name in listed if name.startswith("test/")} for listed in (first, other, others_own)]
    assert of[0] == of[1] != of[2]
    assert set(first) - of[0] != set(other) - of[1] == set(others_own) - of[2]


def test_subset_of_a_folder_without_splits_is_refused(images, tmp_path):
    with pytest.raises(BenchmarkError, match="has no folder train/"):
        make_subset(images / "train", tmp_path / "subset", 2, 2, 0)


def test_subset_of_different_classes_is_refused(images, tmp_path):
    (images / "test" / "cat").rename(images / "test" / "dog")
    with pytest.raises(BenchmarkError, match="have different classes"):
        make_subset(images, tmp_path / "subset", 4, 4, 0)
