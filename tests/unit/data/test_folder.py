"""Folders of images.

Both layouts, every mistake with its own sentence, and a division that nothing but listing and seed moves.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from toolkit.data import Dataset, Split, folder, load_dataset
from toolkit.data.folder import FolderSource
from toolkit.data.identical import Listed, identical_files
from toolkit.errors import DataError, ImageError, UnreadableImagesError
from toolkit.preprocess import Preprocessing
from toolkit.progress import Bar
from toolkit.recipe import DataRecipe

SMALL = Preprocessing(height=4, width=4, resize="squash", interpolation="bilinear")


def fill(root: Path, classes: Mapping[str, int]) -> Path:
    """Write so many images, all different, into each folder."""
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            rng = np.random.default_rng(list(f"{name}/{number}".encode()))
            Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(root / name / f"{number:03d}.png")
    return root


def load(
    root: Path,
    seed: int = 0,
    splits: tuple[str, ...] = ("train", "validation", "test"),
    reporter: object = None,
    **fields: object,
) -> Dataset:
    recipe = DataRecipe.model_validate({"source": str(root), **fields})
    return load_dataset(recipe, seed, splits=splits, reporter=reporter)  # type: ignore[arg-type]  # Heard is a Reporter


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[tuple[str, int]] = []
        self.done = 0

    def line(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        self.bars.append((description, total))
        yield self

    def advance(self, steps: int = 1, **fields: str) -> None:
        self.done += steps


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return fill(tmp_path / "plain", {"cat": 20, "ant": 12, "Bee": 8})


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    return fill(tmp_path / "divided", {"train/cat": 12, "train/ant": 8, "test/cat": 3, "test/ant": 2})


def contents(split: Split) -> set[bytes]:
    return {Path(str(source)).read_bytes() for source in split.sources}


class TestPlainLayout:
    def test_labels_are_sorted_by_code_point(self, plain: Path) -> None:
        assert load(plain).labels == ("Bee", "ant", "cat")

    def test_division(self, plain: Path) -> None:
        data = load(plain, test_fraction=0.25, validation_fraction=0.2)
        assert data.source == str(plain)
        assert {name: split.images for name, split in data.summary().splits.items()} == {
            "train": 24,
            "validation": 6,
            "test": 10,
        }
        assert data.summary().splits["test"].per_class == (2, 3, 5)
        for name, target in zip(data.split("test").names, data.split("test").targets, strict=True):
            assert name.split("/")[0] == data.labels[target]

    def test_no_test_image_is_in_train_or_validation(self, plain: Path) -> None:
        data = load(plain)
        for seen in (
            {name: set(split.names) for name, split in data.splits.items()},
            {name: contents(split) for name, split in data.splits.items()},
        ):
            assert not seen["test"] & (seen["train"] | seen["validation"])
            assert not seen["train"] & seen["validation"]
            assert sum(len(part) for part in seen.values()) == 40

    def test_asking_for_one_split_reads_only_it_and_gives_the_same(self, plain: Path) -> None:
        whole, heard = load(plain), Heard()
        alone = load(plain, splits=("test",), reporter=heard)
        assert list(alone.splits) == ["test"]
        assert heard.bars == [("reading the test images", len(alone.split("test")))]
        assert heard.done == len(alone.split("test"))
        assert heard.lines == []
        assert alone.split("test").names == whole.split("test").names
        assert alone.split("test").fingerprint == whole.split("test").fingerprint

    def test_the_order_of_the_file_system_makes_no_difference(self, plain: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        for path in sorted(plain.rglob("*.png"), reverse=True):
            (other / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, other / path.parent.name)
        first, second = load(plain), load(other)
        for name in first.splits:
            assert first.split(name).names == second.split(name).names
            assert first.split(name).fingerprint == second.split(name).fingerprint

    def test_seed_decides(self, plain: Path) -> None:
        assert load(plain, seed=1).split("test").names != load(plain, seed=2).split("test").names

    def test_fingerprint_changes_with_one_byte_and_with_a_label(self, plain: Path) -> None:
        before = load(plain).split("test")
        path = Path(str(before.sources[0]))
        content = path.read_bytes()
        path.write_bytes(content + b"\0")
        assert load(plain).split("test").fingerprint != before.fingerprint
        path.write_bytes(content)
        assert load(plain).split("test").fingerprint == before.fingerprint
        (plain / "cat").rename(plain / "cow")
        assert load(plain).split("test").fingerprint != before.fingerprint

    def test_says_what_it_cuts(self, plain: Path) -> None:
        heard = Heard()
        load(plain, reporter=heard)
        assert [line for line in heard.lines if "no test split" in line and "20%" in line]
        assert [line for line in heard.lines if "no validation split" in line and "10%" in line]

    def test_limits(self, plain: Path) -> None:
        data = load(plain, train_limit=12, test_limit=3)
        assert len(data.split("train")) + len(data.split("validation")) == 12
        assert len(data.split("test")) == 3

    def test_hidden_folders_and_other_files_are_ignored(self, plain: Path) -> None:
        before = load(plain)
        fill(plain, {".cache": 3, "cat/.thumbnails": 2})
        (plain / "cat" / "notes.txt").write_text("x")
        (plain / "README.md").write_text("x")
        assert load(plain).labels == before.labels
        assert load(plain).split("train").names == before.split("train").names

    def test_loose_images_are_said(self, plain: Path) -> None:
        shutil.copy(plain / "cat" / "000.png", plain / "loose.png")
        heard = Heard()
        load(plain, reporter=heard)
        assert any("1 images directly in" in line for line in heard.lines)

    def test_nested_folders_and_links(self, plain: Path, tmp_path: Path) -> None:
        fill(tmp_path / "elsewhere", {"more": 1})
        (plain / "cat" / "link.png").symlink_to(tmp_path / "elsewhere" / "more" / "000.png")
        fill(plain, {"cat/deep": 1})
        names = {name for split in load(plain).splits.values() for name in split.names}
        assert {"cat/link.png", "cat/deep/000.png"} <= names
        assert len(names) == 42

    def test_names_in_any_script(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"猫": 4, "كلب": 4, "🦊": 4})
        assert load(root).labels == ("كلب", "猫", "🦊")

    def test_load_gives_pixels(self, plain: Path) -> None:
        split = load(plain, splits=("test",)).split("test")
        images = split.load(np.array([1, 0, 1]), SMALL)
        assert images.shape == (3, 4, 4, 3)
        np.testing.assert_array_equal(images[0], images[2])

    def test_a_file_that_vanished_is_named(self, plain: Path) -> None:
        split = load(plain, splits=("test",)).split("test")
        Path(str(split.sources[2])).unlink()
        with pytest.raises(ImageError, match=split.names[2]):
            split.load([2], SMALL)


class TestDividedLayout:
    def test_test_is_kept_and_validation_is_cut_from_train(self, divided: Path) -> None:
        data = load(divided, validation_fraction=0.25)
        assert {name: split.images for name, split in data.summary().splits.items()} == {
            "train": 15,
            "validation": 5,
            "test": 5,
        }
        assert all(name.startswith("test/") for name in data.split("test").names)
        assert all(name.startswith("train/") for name in data.split("validation").names)

    @pytest.mark.parametrize("name", ["val", "valid", "validation"])
    def test_a_validation_folder_is_used(self, divided: Path, name: str) -> None:
        fill(divided, {f"{name}/cat": 2, f"{name}/ant": 1})
        data = load(divided)
        assert data.split("validation").names == (f"{name}/ant/000.png", f"{name}/cat/000.png", f"{name}/cat/001.png")
        assert len(data.split("train")) == 20

    def test_without_test_one_is_cut_from_train_and_said(self, divided: Path) -> None:
        shutil.rmtree(divided / "test")
        heard = Heard()
        data = load(divided, reporter=heard, test_fraction=0.25)
        assert len(data.split("test")) == 5
        assert any("no test split" in line and "25%" in line for line in heard.lines)
        assert not set(data.split("test").names) & (
            set(data.split("train").names) | set(data.split("validation").names)
        )

    def test_two_validation_folders(self, divided: Path) -> None:
        fill(divided, {"val/cat": 1, "valid/cat": 1})
        with pytest.raises(DataError, match="has val/ and valid/: keep one"):
            load(divided)

    @pytest.mark.parametrize("name", ["test", "val"])
    def test_without_train(self, divided: Path, name: str) -> None:
        (divided / "train").rename(divided / "elsewhere")
        (divided / "test").rename(divided / name)
        with pytest.raises(DataError, match=rf"has {name}/ and no train/"):
            load(divided)

    def test_classes_that_differ(self, divided: Path) -> None:
        (divided / "test" / "ant").rename(divided / "test" / "cow")
        with pytest.raises(DataError, match=r"test/ lacks class 'ant'; test/ has class 'cow', which train/ lacks"):
            load(divided)

    def test_an_empty_class_of_the_test_split(self, divided: Path) -> None:
        shutil.rmtree(divided / "test" / "ant")
        (divided / "test" / "ant").mkdir()
        with pytest.raises(DataError, match=r"class 'ant' of .*test has no images"):
            load(divided)

    def test_a_split_without_images(self, divided: Path) -> None:
        shutil.rmtree(divided / "test")
        (divided / "test").mkdir()
        with pytest.raises(DataError, match="test has no images"):
            load(divided)


class TestMistakes:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no data source.*gone.*'cifar10', 'digits'"):
            load(tmp_path / "gone")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="file is not a folder"):
            load(tmp_path / "file")

    @pytest.mark.parametrize("folders", [[], ["cat", "dog"]])
    def test_no_images_at_all(self, tmp_path: Path, folders: list[str]) -> None:
        for name in folders:
            (tmp_path / name).mkdir()
            (tmp_path / name / "notes.txt").touch()
        with pytest.raises(DataError, match=r"has no images \(files named .apng"):
            load(tmp_path)

    def test_no_class_folders(self, tmp_path: Path) -> None:
        fill(tmp_path, {"": 3})
        with pytest.raises(DataError, match="no class folders: its 3 images lie directly in it"):
            load(tmp_path)

    def test_one_class_only(self, tmp_path: Path) -> None:
        fill(tmp_path, {"cat": 5})
        with pytest.raises(DataError, match="one class only, 'cat'"):
            load(tmp_path)

    def test_an_empty_class(self, plain: Path) -> None:
        (plain / "dog").mkdir()
        with pytest.raises(DataError, match=r"class 'dog' of .*plain has no images"):
            load(plain)

    def test_too_few_images_of_a_class(self, tmp_path: Path) -> None:
        fill(tmp_path, {"cat": 5, "dog": 2})
        with pytest.raises(DataError, match="class 'dog' has 2, and each class needs at least 3"):
            load(tmp_path)

    def test_a_listing_that_fails(self, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", refuse)
        with pytest.raises(DataError, match=r"plain cannot be listed: .*Permission denied"):
            load(plain)


class TestUnreadable:
    def test_all_are_listed_with_reasons_before_anything_else(self, plain: Path) -> None:
        (plain / "cat" / "000.png").write_bytes(b"text")
        (plain / "ant" / "000.png").write_bytes((plain / "ant" / "001.png").read_bytes()[:50])
        (plain / "Bee" / "broken.png").symlink_to(plain / "gone.png")
        with pytest.raises(UnreadableImagesError, match="3 image files cannot be read:") as caught:
            load(plain)
        assert {file for file, _ in caught.value.failures} == {"cat/000.png", "ant/000.png", "Bee/broken.png"}
        assert "cat/000.png: it is in none of the formats" in str(caught.value)
        assert "Bee/broken.png: No such file" in str(caught.value)
        assert "--skip-unreadable" in str(caught.value)

    def test_twenty_are_shown(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"cat": 30, "dog": 30})
        for path in sorted((root / "cat").iterdir())[:25]:
            path.write_bytes(b"")
        with pytest.raises(UnreadableImagesError) as caught:
            load(root)
        assert len(caught.value.failures) == 25
        assert str(caught.value).count("the file is empty") + str(caught.value).count("it is empty") == 20
        assert "and 5 more" in str(caught.value)

    def test_left_out_if_asked_without_moving_the_division(self, plain: Path) -> None:
        whole = load(plain)
        bad = whole.split("train").names[0]
        (plain / bad).write_bytes(b"text")
        data = load(plain, skip_unreadable=True)
        assert data.split("train").names == whole.split("train").names[1:]
        assert len(data.split("train").targets) == len(data.split("train").sources) == len(whole.split("train")) - 1
        for name in ("validation", "test"):
            assert data.split(name).fingerprint == whole.split(name).fingerprint
        assert data.split("train").fingerprint != whole.split("train").fingerprint
        assert [skipped.file for skipped in data.summary().skipped] == [bad]
        assert "none of the formats" in data.skipped[0].reason

    def test_files_of_other_splits_are_not_looked_at(self, plain: Path) -> None:
        (plain / load(plain).split("train").names[0]).write_bytes(b"text")
        assert len(load(plain, splits=("test",)).split("test")) == 8

    def test_a_class_without_images_left(self, plain: Path) -> None:
        for name in load(plain).split("test").names:
            if name.startswith("Bee/"):
                (plain / name).write_bytes(b"text")
        with pytest.raises(DataError, match="class 'Bee' has no image in the test split"):
            load(plain, skip_unreadable=True)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")
    def test_a_pipe_and_a_device_are_unreadable_files(self, plain: Path) -> None:
        os.mkfifo(plain / "cat" / "pipe.png")
        (plain / "ant" / "zero.png").symlink_to("/dev/zero")
        with pytest.raises(UnreadableImagesError) as caught:
            load(plain)
        assert set(caught.value.failures) == {("cat/pipe.png", "it is a pipe"), ("ant/zero.png", "it is a device")}
        assert len(load(plain, skip_unreadable=True).skipped) == 2

    def test_too_many_pixels_are_unreadable(self, plain: Path) -> None:
        Image.new("L", (100, 90)).save(plain / "cat" / "large.png")
        assert load(plain, max_pixels=9000).splits["train"].max_pixels == 9000
        with pytest.raises(UnreadableImagesError, match=r"large\.png: it has 100 x 90 pixels, more than 8999 pixels"):
            load(plain, max_pixels=8999)

    @pytest.mark.skipif(os.name == "nt", reason="Windows file names are Unicode without control characters")
    def test_names_of_classes_and_files_are_kept_as_they_can_be_shown(self, plain: Path) -> None:
        (plain / "cat").rename(plain / os.fsdecode(b"caf\xe9\x1b[31m"))
        (plain / "ant" / "two\nlines.png").write_bytes(b"no image")
        with pytest.raises(UnreadableImagesError, match=r"ant/two\\nlines\.png: it is in none"):
            load(plain)
        assert "caf\\xe9\\x1b[31m" in load(plain, skip_unreadable=True).labels

    def test_an_error_in_the_scan_is_not_hidden(self, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> str:
            raise AssertionError

        monkeypatch.setattr("toolkit.data.folder.examine", broken)
        with pytest.raises(AssertionError):
            load(plain)


class TestKindsOfFiles:
    def test_what_is_no_image_and_what_is_one_by_content(self, plain: Path) -> None:
        for number in range(15):
            (plain / "cat" / f"{number}.CR2").touch()
        shutil.copy(plain / "cat" / "000.png", plain / "cat" / "bare")
        (plain / "cat" / "001.png").rename(plain / "cat" / "really-a-png.jpg")
        heard = Heard()
        data = load(plain, reporter=heard)
        names = {name for split in data.splits.values() for name in split.names}
        assert {"cat/bare", "cat/really-a-png.jpg"} <= names
        assert len(names) == 41
        assert f"15 files in {plain}/cat are no images by their name: .CR2 (15)" in heard.lines

    def test_heic_without_what_reads_it_is_named_file_by_file(
        self, plain: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC files are made with pillow-heif")
        pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(plain / "cat" / "phone.HEIC")
        assert sum(len(split) for split in load(plain).splits.values()) == 41
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(
            UnreadableImagesError, match=r"cat/phone\.HEIC: it is a HEIC image.*pip install '.*\[heif\]'"
        ):
            load(plain)

    def test_twelve_bits_in_sixteen_are_said_unless_they_are_scaled(self, tmp_path: Path) -> None:
        for label, number in itertools.product("ab", range(6)):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.fromarray(np.full((4, 4), 800 * number + ord(label), np.uint16)).save(
                tmp_path / label / f"{number}.png"
            )
        for choice, said in (("high-byte", 1), ("scale", 0), ("0..4095", 0)):
            heard = Heard()
            train = load(tmp_path, reporter=heard, sixteen_bit=choice).split("train")
            assert len([line for line in heard.lines if "--sixteen-bit scale" in line]) == said
            assert [(one.kind, one.images) for one in train.values or ()] == [("16 bits", len(train))]

    def test_floating_point_is_taken_where_it_is_scaled(self, tmp_path: Path) -> None:
        for label, number in itertools.product("ab", range(6)):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.fromarray(np.full((4, 4), number + ord(label) / 1000, np.float32)).save(
                tmp_path / label / f"{number}.tif"
            )
        with pytest.raises(UnreadableImagesError, match=r"a/0\.tif: its pixel type F.*--sixteen-bit scale"):
            load(tmp_path)
        train = load(tmp_path, sixteen_bit="scale").split("train")
        assert [one.kind for one in train.values or ()] == ["32 bits"]
        assert replace(train, values=None).value_ranges() == train.values

    def test_the_user_says_what_the_folders_are(self, tmp_path: Path) -> None:
        fill(tmp_path, {"train": 4, "bus": 4})
        with pytest.raises(DataError, match=r"could be a split or a class"):
            load(tmp_path)
        assert load(tmp_path, layout="classes").labels == ("bus", "train")


def test_it_says_whether_it_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for name, expected in {"photos": None, "gone": "is missing"}.items():
        reason = FolderSource().unavailable(DataRecipe.model_validate({"source": str(tmp_path / name)}))
        assert reason == (expected and f"{tmp_path / name} {expected}")
    (tmp_path / "a file").touch()
    (tmp_path / "empty").mkdir()
    for name, problem in {"a file": "is not a folder: give a folder", "empty": "has no images"}.items():
        with pytest.raises(DataError, match=problem):
            FolderSource().unavailable(DataRecipe.model_validate({"source": str(tmp_path / name)}))


class TestCopies:
    def test_they_stay_in_one_part_whatever_they_are_called(self, plain: Path) -> None:
        for number in range(6):
            shutil.copy(plain / "cat" / f"{number:03d}.png", plain / "cat" / f"copy of {number}.png")
            (plain / "ant" / f"link {number}.png").symlink_to(plain / "ant" / f"{number:03d}.png")
        for seed in range(6):
            seen = [contents(split) for split in load(plain, seed=seed).splits.values()]
            assert sum(len(part) for part in seen) == len(set().union(*seen)) == 40
            assert sum(len(split) for split in load(plain, seed=seed).splits.values()) == 52

    def test_the_test_split_alone_is_the_same(self, plain: Path) -> None:
        for number in range(6):
            shutil.copy(plain / "cat" / f"{number:03d}.png", plain / "cat" / f"copy of {number}.png")
        alone = load(plain, splits=("test",)).split("test")
        assert alone.fingerprint == load(plain).split("test").fingerprint

    def test_data_without_copies_are_divided_as_before_there_was_a_look_at_them(
        self, plain: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = load(plain)
        monkeypatch.setattr(folder, "identical_files", lambda paths: Listed(np.arange(len(paths)), {}))
        for name, split in load(plain).splits.items():
            assert split.names == now.split(name).names
            assert split.fingerprint == now.split(name).fingerprint

    def test_no_file_is_hashed_twice(self, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copy(plain / "cat" / "000.png", plain / "cat" / "copy.png")
        known = identical_files(sorted(plain.rglob("*.png"))).digests
        hashed: list[str] = []
        real = hashlib.file_digest

        def counted(file: BinaryIO, kind: str) -> object:
            hashed.append(kind)
            return real(file, kind)

        monkeypatch.setattr(hashlib, "file_digest", counted)
        data = load(plain)
        assert known
        assert len(hashed) == 41
        digests = {digest for split in data.splits.values() for digest in split.digests}
        assert digests == {hashlib.sha256(path.read_bytes()).digest() for path in plain.rglob("*.png")}

    def test_splits_of_ones_own_stay_as_they_are(self, divided: Path) -> None:
        fill(divided, {"val/cat": 2, "val/ant": 1})
        before = load(divided)
        shutil.copy(divided / "train" / "cat" / "000.png", divided / "test" / "cat" / "leak.png")
        after = load(divided)
        assert after.split("train").fingerprint == before.split("train").fingerprint
        assert len(after.split("test")) == len(before.split("test")) + 1


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("photos.zip", "it is an archive; unpack it"),
        ("photos.tar.gz", "it is an archive; unpack it"),
        ("labels.xlsx", "save it as a CSV file with a line 'path,label'"),
        ("cat.jpg", "give a folder, and sort"),
    ],
)
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=f"{name} is not a folder: {advice}"):
        load_dataset(DataRecipe(source=str(tmp_path / name)), seed=0)
