"""Which folders are splits and which are classes: each way to lay out images has its answer or its sentence."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest

from toolkit.data.layout import Layout, find_layout, split_of
from toolkit.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def lay(root: Path, folders: Mapping[str, int], *files: str) -> Path:
    """Write so many files that are images by their names into each folder, and other files."""
    for name, count in folders.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{number}.png").touch()
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def two(prefix: str = "") -> dict[str, int]:
    return {f"{prefix}cat": 2, f"{prefix}dog": 3}


def found(layout: Layout) -> dict[str, list[str]]:
    return {
        name: [f"{label}:{len(files)}" for label, files in pool.classes.items()] for name, pool in layout.pools.items()
    }


BOTH = ["cat:2", "dog:3"]


class TestNames:
    @pytest.mark.parametrize(
        ("split", "names"),
        [
            ("train", "train Train TRAIN training Training trainset train_set training-set train_data Training_Images"),
            ("validation", "val Val valid VALID validation Validation dev Dev valset validation_set development"),
            ("test", "test Test TEST testing testset test_set test-images eval Evaluation"),
        ],
    )
    def test_usual_words_in_any_case(self, split: str, names: str) -> None:
        assert {split_of(name) for name in names.split()} == {split}

    @pytest.mark.parametrize("name", ["cat", "trainer", "test tube", "contest", "train_test", "seg_train", "", "2019"])
    def test_others(self, name: str) -> None:
        assert split_of(name) is None


class TestSplits:
    @pytest.mark.parametrize(
        "names",
        [
            ("Train", "Test", None),
            ("training", "testing", None),
            ("train", "Test", "Validation"),
            ("TRAIN", "eval", "dev"),
            ("train_set", "test_set", "val_set"),
            ("seg_train", "seg_test", None),
            ("Training Data", "Test Data", None),
        ],
    )
    def test_are_found(self, tmp_path: Path, names: tuple[str, str, str | None]) -> None:
        by_split = dict(zip(("train", "test", "validation"), names, strict=True))
        for name in names:
            if name is not None:
                lay(tmp_path, two(f"{name}/"))
        layout = find_layout(tmp_path, "auto")
        assert found(layout) == {split: BOTH for split, name in by_split.items() if name is not None}
        assert layout.lines == []

    def test_what_stands_beside_them_is_named(self, tmp_path: Path) -> None:
        lay(tmp_path, {**two("train/"), **two("test/"), "extra": 4, "empty": 0}, "notes.txt", "loose.png", ".DS_Store")
        layout = find_layout(tmp_path, "auto")
        assert found(layout) == {"train": BOTH, "test": BOTH}
        assert layout.lines == [
            f"{tmp_path} is divided by its folders train/, test/; not used beside them: empty/, extra/ (4 images), "
            "loose.png, notes.txt"
        ]

    @pytest.mark.parametrize("train", [{"train": 3}, two("train/")])
    def test_train_beside_class_folders_could_be_either(self, tmp_path: Path, train: dict[str, int]) -> None:
        lay(tmp_path, {**train, "bus": 4, "car": 5})
        with pytest.raises(
            DataError, match=r"train/ and beside it bus/ \(4 images\), car/ \(5 images\).*split or a cl"
        ):
            find_layout(tmp_path, "auto")
        classes = found(find_layout(tmp_path, "classes"))["train"]
        assert classes == ["bus:4", "car:5", f"train:{sum(train.values())}"]

    def test_the_user_says_that_it_is_a_split(self, tmp_path: Path) -> None:
        lay(tmp_path, {**two("train/"), "extra": 4})
        layout = find_layout(tmp_path, "splits")
        assert found(layout) == {"train": BOTH}
        assert "not used beside them: extra/ (4 images)" in layout.lines[0]

    @pytest.mark.parametrize(("name", "other"), [("valid", "invalid"), ("Test", "cat"), ("dev", "prod")])
    def test_a_class_called_like_another_split(self, tmp_path: Path, name: str, other: str) -> None:
        lay(tmp_path, {name: 2, other: 3})
        with pytest.raises(DataError, match=rf"has {name}/ and no train/, and {other}/ \(3 images\).*--layout classes"):
            find_layout(tmp_path, "auto")
        assert set(found(find_layout(tmp_path, "classes"))["train"]) == {f"{name}:2", f"{other}:3"}

    def test_two_words_for_one_split(self, tmp_path: Path) -> None:
        lay(tmp_path, {**two("train/"), **two("dev/"), **two("val/")})
        with pytest.raises(DataError, match="has val/ and dev/: keep one of them as the validation split"):
            find_layout(tmp_path, "auto")

    def test_two_sets_of_splits(self, tmp_path: Path) -> None:
        lay(
            tmp_path,
            {f"{split}{number}/{label}": 1 for split in ("train", "test") for number in "12" for label in "ab"},
        )
        with pytest.raises(DataError, match="several sets of splits"):
            find_layout(tmp_path, "auto")

    def test_splits_that_hold_images_directly(self, tmp_path: Path) -> None:
        lay(tmp_path, {"Train": 3, "Test": 2})
        with pytest.raises(DataError, match=r"Train has no class folders: its 3 images.*--layout classes"):
            find_layout(tmp_path, "auto")
        assert found(find_layout(tmp_path, "classes")) == {"train": ["Test:2", "Train:3"]}

    def test_a_test_folder_without_labels(self, tmp_path: Path) -> None:
        lay(tmp_path, {**two("train/"), "test": 4}, "sample_submission.csv")
        with pytest.raises(
            DataError, match=r"test has no class folders.*If nobody has labelled its images, move test/ out of"
        ):
            find_layout(tmp_path, "auto")

    def test_splits_that_are_not_there(self, tmp_path: Path) -> None:
        lay(tmp_path, two())
        with pytest.raises(DataError, match="has no train/, so its folders cannot be splits"):
            find_layout(tmp_path, "splits")

    def test_splits_inside_of_classes(self, tmp_path: Path) -> None:
        lay(tmp_path, {f"{label}/{split}": 2 for label in ("cat", "dog") for split in ("train", "test")})
        with pytest.raises(DataError, match=r"splits inside of its classes \(cat/test/ \(2\).*turn them around"):
            find_layout(tmp_path, "auto")
        assert found(find_layout(tmp_path, "classes")) == {"train": ["cat:4", "dog:4"]}


class TestWrappers:
    @pytest.mark.parametrize("depth", [1, 3])
    def test_one_folder_that_is_all_there_is_is_entered(self, tmp_path: Path, depth: int) -> None:
        lay(tmp_path, two("photos/" * depth), "__MACOSX/photos/._x.png", "README.md")
        layout = find_layout(tmp_path, "auto")
        assert found(layout) == {"train": BOTH}
        entered = [line for line in layout.lines if line.endswith("the folder photos/: that one is taken")]
        assert len(entered) == depth

    def test_around_splits_and_inside_of_them(self, tmp_path: Path) -> None:
        lay(tmp_path, {**two("archive/seg_train/seg_train/"), **two("archive/seg_test/seg_test/")})
        assert found(find_layout(tmp_path, "auto")) == {"train": BOTH, "test": BOTH}

    def test_one_class_is_no_wrapper(self, tmp_path: Path) -> None:
        lay(tmp_path, {"cat": 3})
        with pytest.raises(DataError, match="one class only, 'cat'"):
            find_layout(tmp_path, "auto")

    def test_a_loop_of_links_ends(self, tmp_path: Path) -> None:
        (tmp_path / "again").symlink_to(tmp_path)
        with pytest.raises(DataError, match="has no images"):
            find_layout(tmp_path, "auto")


class TestOtherTasks:
    @pytest.mark.parametrize(
        "files",
        [
            ("images/0.png", "labels/0.txt", "data.yaml"),
            ("train/images/0.png", "train/labels/0.txt", "val/images/0.png", "val/labels/0.txt", "data.yaml"),
            ("images/train/0.png", "images/val/0.png", "labels/train/0.txt", "labels/val/0.txt"),
            ("images/0.png", "annotations/0.xml"),
            ("JPEGImages/0.jpg", "Annotations/0.xml", "ImageSets/Main/train.txt"),
            ("train2017/0.jpg", "Annotations/instances.json"),
            ("images/0.png", "masks/0.png"),
        ],
    )
    def test_detection_and_segmentation_are_named(self, tmp_path: Path, files: tuple[str, ...]) -> None:
        lay(tmp_path, {}, *files)
        with pytest.raises(DataError, match=r"laid out for object detection or segmentation.*classifies whole images"):
            find_layout(tmp_path, "auto")

    def test_classes_of_these_names_are_possible(self, tmp_path: Path) -> None:
        lay(tmp_path, {"images": 2, "masks": 2})
        assert found(find_layout(tmp_path, "classes")) == {"train": ["images:2", "masks:2"]}
        lay(tmp_path / "faces", {"mask": 2, "no_mask": 2})
        assert found(find_layout(tmp_path / "faces", "auto")) == {"train": ["mask:2", "no_mask:2"]}

    @pytest.mark.parametrize("folder", ["", "images"])
    def test_a_table_beside_images_is_pointed_out(self, tmp_path: Path, folder: str) -> None:
        lay(tmp_path, {folder: 3}, "labels.csv")
        with pytest.raises(DataError, match=r"if labels\.csv says which image.*give --data .*labels\.csv\."):
            find_layout(tmp_path, "auto")


class TestClasses:
    def test_folders_inside_of_a_class_count_as_it_and_are_named(self, tmp_path: Path) -> None:
        lay(tmp_path, {"cat": 1, "cat/deep": 2, "dog": 3})
        layout = find_layout(tmp_path, "auto")
        assert found(layout) == {"train": ["cat:3", "dog:3"]}
        assert layout.lines == [
            f"images in folders inside of a class folder of {tmp_path} count as that class: cat/deep/ (2)"
        ]

    @pytest.mark.parametrize("outer", ["fold", "camera", "v"])
    def test_the_same_folders_in_every_class_could_be_the_classes(self, tmp_path: Path, outer: str) -> None:
        lay(tmp_path, {f"{outer}{number}/{label}": 2 for number in range(3) for label in ("cat", "dog")})
        with pytest.raises(
            DataError, match=r"holds the same folders \(.*0/cat/ \(2\).*either could be.*--layout classes"
        ):
            find_layout(tmp_path, "auto")
        assert len(found(find_layout(tmp_path, "classes"))["train"]) == 3

    def test_classes_below_classes(self, tmp_path: Path) -> None:
        lay(tmp_path, {"cats/persian": 1, "cats/siamese": 2, "dogs/pug": 3})
        layout = find_layout(tmp_path, "auto")
        assert found(layout) == {"train": ["cats:3", "dogs:3"]}
        assert layout.lines[0].endswith(
            f"cats/persian/ (1), cats/siamese/ (2), dogs/pug/ (3). If these folders are the classes, put them directly "
            f"into {tmp_path}"
        )

    def test_files_that_are_no_images_are_counted(self, tmp_path: Path) -> None:
        lay(
            tmp_path, two(), *(f"cat/{number}.CR2" for number in range(15)), "cat/Thumbs.db", "dog/.hidden.txt", "dog/a"
        )
        assert find_layout(tmp_path, "auto").lines == [
            f"15 files in {tmp_path}/cat are no images by their name: .CR2 (15)",
            f"1 file in {tmp_path}/dog is no image by its name: no suffix (1)",
        ]

    def test_many_folders_with_such_files(self, tmp_path: Path) -> None:
        lay(tmp_path, {f"c{number}": 1 for number in range(9)}, *(f"c{number}/a.txt" for number in range(9)))
        lines = find_layout(tmp_path, "auto").lines
        assert len(lines) == 6
        assert lines[-1] == f"4 more folders in {tmp_path} hold files that are no images by their names"

    def test_a_class_of_nothing_but_such_files(self, tmp_path: Path) -> None:
        lay(tmp_path, {"cat": 2, "cow": 2, "dog": 0}, "dog/a.CR2", "dog/b.CR2")
        with pytest.raises(
            DataError, match=r"class 'dog' of .* has no images: 2 files in dog are no im.*: \.CR2 \(2\)\."
        ):
            find_layout(tmp_path, "auto")

    def test_no_class_has_images(self, tmp_path: Path) -> None:
        lay(tmp_path, {}, "cat/a.CR2", "dog/b.CR2")
        with pytest.raises(
            DataError, match=r"has no images \(files named .*1 file in .*cat is no image.*\.CR2 \(1\)\."
        ):
            find_layout(tmp_path, "auto")

    def test_a_name_in_two_unicode_spellings(self, tmp_path: Path) -> None:
        lay(tmp_path, {NFC: 2, NFD: 2, "cat": 2})
        with pytest.raises(
            DataError, match=rf"same name {NFC!r} in two Unicode spellings \('cafe\\u0301' and 'caf\\xe9'\)"
        ):
            find_layout(tmp_path, "auto")

    def test_splits_that_spell_a_name_differently_have_the_same_class(self, tmp_path: Path) -> None:
        lay(tmp_path, {f"train/{NFD}": 2, "train/zoo": 1, f"test/{NFC}": 3, "test/zoo": 1, "test/Zebra": 0})
        (tmp_path / "test" / "Zebra").rmdir()
        assert found(find_layout(tmp_path, "auto")) == {"train": [f"{NFD}:2", "zoo:1"], "test": [f"{NFD}:3", "zoo:1"]}

    def test_names_that_differ_in_case_are_said(self, tmp_path: Path) -> None:
        lay(tmp_path, {"A": 2, "a": 2})
        layout = find_layout(tmp_path, "auto")
        assert found(layout) == {"train": ["A:2", "a:2"]}
        assert layout.lines == [f"the classes 'A' and 'a' of {tmp_path} differ only in case"]

    @pytest.mark.parametrize("other", ["cat ", "cat\u200b", "c\uff41t"])
    def test_names_that_look_alike_are_said(self, tmp_path: Path, other: str) -> None:
        lay(tmp_path, {"cat": 2, other: 2})
        layout = find_layout(tmp_path, "auto")
        assert set(layout.pools["train"].classes) == {"cat", other}
        assert [line for line in layout.lines if "look alike: they differ only in blanks" in line and "'cat'" in line]

    def test_splits_whose_classes_look_alike(self, tmp_path: Path) -> None:
        lay(tmp_path, {"train/cat": 2, "train/dog": 2, "test/cat ": 2, "test/dog": 2})
        with pytest.raises(
            DataError, match="spellings of class 'cat' differ in blanks or in characters that are not s"
        ):
            find_layout(tmp_path, "auto")

    def test_hidden_folders_with_images_are_said(self, tmp_path: Path) -> None:
        lay(tmp_path, {**two(), ".ipynb_checkpoints": 2, ".git": 0})
        layout = find_layout(tmp_path, "auto")
        assert found(layout) == {"train": BOTH}
        assert layout.lines == [
            f"folders in {tmp_path} whose names start with a dot are left out: .ipynb_checkpoints/ (2 images)"
        ]

    def test_splits_whose_classes_differ_in_case(self, tmp_path: Path) -> None:
        lay(tmp_path, {"train/Cat": 2, "train/dog": 2, "test/cat": 2, "test/dog": 2})
        with pytest.raises(DataError, match="names that differ only in case are different classes: spell them alike"):
            find_layout(tmp_path, "auto")


class TestLinks:
    def test_linked_class_folders_are_followed(self, tmp_path: Path) -> None:
        lay(tmp_path / "elsewhere", two())
        (tmp_path / "data").mkdir()
        for name, target in (("a", "cat"), ("b", "dog")):
            (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere" / target)
        assert found(find_layout(tmp_path / "data", "auto")) == {"train": ["a:2", "b:3"]}

    def test_two_classes_that_are_one_folder(self, tmp_path: Path) -> None:
        lay(tmp_path, two())
        (tmp_path / "kitten").symlink_to(tmp_path / "cat")
        with pytest.raises(DataError, match=r"cat/ and kitten/ in .* are the same folder by a link"):
            find_layout(tmp_path, "auto")

    def test_a_link_that_leads_nowhere_is_named(self, tmp_path: Path) -> None:
        lay(tmp_path, two())
        (tmp_path / "cow").symlink_to(tmp_path / "gone")
        assert find_layout(tmp_path, "auto").lines == [f"links in {tmp_path} that lead nowhere are left out: cow"]
