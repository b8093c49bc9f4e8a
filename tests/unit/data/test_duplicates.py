from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from toolkit.data import duplicates
from toolkit.data.dataset import Dataset, Split, split_of_arrays
from toolkit.data.duplicates import Duplicates, find_duplicates
from toolkit.progress import Silent

LABELS = ("cat", "dog")


def dataset(contents: Mapping[str, Sequence[tuple[int, int]]]) -> Dataset:
    """Return pictures of one grey each, given as grey and class."""
    splits: dict[str, Split] = {}
    for name, pictures in contents.items():
        images = np.array([np.full((4, 4), grey) for grey, _ in pictures], np.uint8)
        names = tuple(f"{name}/{number}.png" for number in range(len(pictures)))
        splits[name] = split_of_arrays(name, images, np.array([target for _, target in pictures]), names, LABELS)
    return Dataset("made", LABELS, splits)


def found(contents: Mapping[str, Sequence[tuple[int, int]]], near: bool = False) -> Duplicates:
    return find_duplicates(dataset(contents), near=near, reporter=Silent())


LEAKING = {
    "train": [(1, 0), (2, 1), (3, 0), (3, 0)],
    "validation": [(4, 1), (1, 0)],
    "test": [(5, 0), (4, 1), (1, 0), (2, 0)],
}


def test_images_in_an_earlier_split_are_counted_and_named() -> None:
    result = found(LEAKING)
    test, validation = result.leaked("test"), result.leaked("validation")
    assert test.mask.tolist() == [False, True, True, True]
    assert test.seen_in == ("train", "validation")
    assert validation.mask.tolist() == [False, True]
    assert validation.seen_in == ("train",)
    assert not result.leaked("train").mask.any()
    assert (test.near, validation.near) == (0, 0)


def test_every_kind_is_said_in_a_line_with_both_paths() -> None:
    lines = found(LEAKING).lines()
    assert lines == [
        "1 of 2 validation images is also in train, so that the accuracy on them says little: train/0.png (cat) = "
        "validation/1.png (cat)",
        "3 of 4 test images are also in train and validation, so that the accuracy on them says little: train/0.png "
        "(cat) = test/2.png (cat); train/1.png (dog) = test/3.png (cat); "
        "validation/0.png (dog) = test/1.png (dog)",
        "1 picture is in two classes, so that one label is wrong: train/1.png (dog) = test/3.png (cat)",
        "1 image is a copy of another one in the same split",
    ]


def test_two_classes_within_a_split_are_named_with_both_paths() -> None:
    lines = found({"train": [(7, 0), (8, 1), (7, 1)], "test": [(9, 0)]}).lines()
    assert "1 picture is in two classes, so that one label is wrong: train/0.png (cat) = train/2.png (dog)" in lines


def test_the_record_has_counts_and_the_gravest_groups_first() -> None:
    summary = found({**LEAKING, "train": [(9, 0), (9, 0), *LEAKING["train"]]}).summary()
    assert summary.copies == 6
    assert summary.near_copies is None
    assert summary.two_classes == 1
    assert summary.leaked == {"train": 0, "validation": 1, "test": 3}
    assert len(summary.groups) == 5
    assert all(group.exact for group in summary.groups)
    assert {image.split for image in summary.groups[-1].images} == {"train"}


def test_many_groups_are_cut_short_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [(grey, 0) for grey in range(9)]
    (line,) = found({"train": pictures, "test": pictures}).lines()
    assert line.startswith("9 of 9 test images are also in train")
    assert line.endswith("; and 4 more, in run.json")
    monkeypatch.setattr(duplicates, "RECORDED", 3)
    assert len(found({"train": pictures, "test": pictures}).summary().groups) == 3


def test_data_without_duplicates_says_nothing() -> None:
    result = found({"train": [(1, 0), (2, 1)], "test": [(3, 0)]})
    assert result.lines() == []
    assert result.summary().groups == ()


def test_near_copies_count_with_all_copies_of_each_content(monkeypatch: pytest.MonkeyPatch) -> None:
    # Contents in order: 1, 2, 3, 4, 5. The pictures 3, 4 and 5 are the same.
    monkeypatch.setattr(duplicates, "near_pairs", lambda images, *_: [(3, 4), (2, 4)])
    result = found({**LEAKING, "train": LEAKING["train"][:3]}, near=True)
    test = result.leaked("test")
    assert test.mask.tolist() == [True, True, True, True]
    assert test.near == 1
    assert result.leaked("validation").mask.tolist() == [True, True]
    assert result.leaked("validation").near == 1
    assert result.summary().near_copies == 2
    assert "4 of 4 test images are also in train and validation (1 of them re-encoded, resized or cropped)" in str(
        result.lines()
    )


def test_a_source_that_tells_no_contents_has_no_exact_duplicates() -> None:
    data = dataset(LEAKING)
    silent = replace(data, splits={name: replace(split, digests=()) for name, split in data.splits.items()})
    assert find_duplicates(silent, near=False, reporter=Silent()).lines() == []
