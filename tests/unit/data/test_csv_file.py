"""A CSV file of paths and classes: what people's tables look like, and each mistake with its own sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.data import Dataset, load_dataset
from toolkit.data.csv_file import CsvSource
from toolkit.errors import DataError, UnreadableImagesError
from toolkit.recipe import DataRecipe

ALL = ("train", "validation", "test")
NAMES = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(6)]


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def bar(self, *_: object, **__: object) -> object:
        from toolkit.progress import Silent

        return Silent().bar("", 1, unit="")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for index, name in enumerate(NAMES):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((3, 4, 3), index, np.uint8) + np.arange(4, dtype=np.uint8)[:, None] * 60).save(
            root / name
        )
    return root


@pytest.fixture
def write(pictures: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a table beside the images."""
    shutil.copytree(pictures, tmp_path / "data")

    def write(text: str | bytes, name: str = "labels.csv") -> Path:
        table = tmp_path / "data" / name
        table.write_bytes(text if isinstance(text, bytes) else text.encode())
        return table

    return write


def rows(separator: str = ",", names: list[str] = NAMES) -> str:
    return "".join(f"{name}{separator}{name.split('/')[0]}\n" for name in names)


def load(table: Path, splits: tuple[str, ...] = ALL, reporter: object = None, **fields: object) -> Dataset:
    recipe = DataRecipe.model_validate({"source": str(table), **fields})
    return load_dataset(recipe, 0, splits=splits, reporter=reporter)  # type: ignore[arg-type]  # Heard is a Reporter


def everything(data: Dataset) -> dict[str, str]:
    return {
        name: data.labels[target]
        for split in data.splits.values()
        for name, target in zip(split.names, split.targets, strict=True)
    }


class TestTables:
    @pytest.mark.parametrize(
        "text",
        [
            "path,label\n" + rows(),
            "Filename;Category\r\n" + rows(";").replace("\n", "\r\n"),
            "image_path\tclass\n" + rows("\t"),
            "id,file name,target\n" + "".join(f"7,{line}\n" for line in rows().splitlines()),
            '"img","label"\n' + "".join(f'"{name}", "{name.split("/")[0]}"\n' for name in NAMES),
            "sep=;\npath;label\n" + rows(";"),
            "\n\npath,label\n\n" + rows().replace("\n", "\n\n"),
            rows(),
            "".join(f"{name.split('/')[0]},{name}\n" for name in NAMES),
            ("﻿path,label\n" + rows()).encode(),
            ("path\tlabel\n" + rows("\t")).encode("utf-16"),
            "path,label\n" + rows(names=NAMES[::-1]),
            "path,label\n" + rows().replace("/", "\\"),
            "path,label\n" + rows().replace("cat/", "./dog/../cat/"),
        ],
        ids=[
            "plain",
            "semicolon",
            "tab",
            "more columns",
            "quoted",
            "sep=",
            "empty lines",
            "no header",
            "class first",
            "bom",
            "utf-16",
            "other order",
            "backslashes",
            "dots",
        ],
    )
    def test_are_read(self, write: Callable[..., Path], text: str | bytes) -> None:
        data = load(write(text))
        assert data.labels == ("cat", "dog")
        assert everything(data) == {name: name.split("/")[0] for name in NAMES}

    def test_the_division_is_that_of_the_same_images_in_folders(self, write: Callable[..., Path]) -> None:
        table = write("path,label\n" + rows())
        of_table, of_folder = load(table), load(table.parent)
        assert of_table.source == str(table)
        for name in ALL:
            assert of_table.split(name).names == of_folder.split(name).names
            assert of_table.split(name).fingerprint == of_folder.split(name).fingerprint
        assert load(table, splits=("test",)).split("test").fingerprint == of_folder.split("test").fingerprint

    def test_commas_and_line_ends_in_quotes(self, write: Callable[..., Path]) -> None:
        table = write("path,label\n" + rows().replace(",cat", ',"cat, tabby"'))
        assert load(table).labels == ("cat, tabby", "dog")

    @pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "Dev", "TEST")])
    def test_a_column_of_splits(self, write: Callable[..., Path], words: tuple[str, str, str]) -> None:
        lines = [f"{name},{name[:3]},{words[int(name[4]) % 3]}\n" for name in NAMES]
        data = load(write("path,label,split\n" + "".join(lines)))
        assert {name: [path[4] for path in split.names] for name, split in data.splits.items()} == {
            "train": ["0", "3"] * 2,
            "validation": ["1", "4"] * 2,
            "test": ["2", "5"] * 2,
        }

    def test_splits_without_a_header(self, write: Callable[..., Path]) -> None:
        lines = [f"{name},{name[:3]},{'train' if name[4] in '0123' else 'test'}\n" for name in NAMES]
        assert load(write("".join(lines))).split("test").names == ("cat/4.png", "cat/5.png", "dog/4.png", "dog/5.png")

    def test_absolute_paths_leave_nothing_of_the_machine_in_names(
        self, write: Callable[..., Path], tmp_path: Path
    ) -> None:
        table = write("path,label\n" + rows())
        (tmp_path / "elsewhere").mkdir()
        moved = tmp_path / "elsewhere" / "labels.csv"
        moved.write_text("path,label\n" + "".join(f"{table.parent / line}\n" for line in rows().splitlines()))
        assert everything(load(moved)) == everything(load(table))
        moved.write_text("path,label\n" + "".join(f"../data/{line}\n" for line in rows().splitlines()))
        assert everything(load(moved)) == everything(load(table))

    def test_repeated_lines_are_said(self, write: Callable[..., Path]) -> None:
        heard = Heard()
        data = load(write("path,label\n" + rows() + "cat/0.png,cat\n./cat/0.png,cat\n"), reporter=heard)
        assert len(everything(data)) == 12
        assert any("2 lines of " in line and "repeat another one" in line for line in heard.lines)

    def test_columns_that_are_not_used_are_said(self, write: Callable[..., Path]) -> None:
        heard = Heard()
        table = write("path,width,label\n" + "".join(f"{name},4,{name.split('/')[0]}\n" for name in NAMES))
        load(table, reporter=heard)
        assert f"columns of {table} that are not used: 'width'" in heard.lines

    def test_boxes_are_said_to_be_left_out(self, write: Callable[..., Path]) -> None:
        heard = Heard()
        load(
            write(
                "filename,width,height,class,xmin,ymin,xmax,ymax\n"
                + "".join(f"{name},4,3,{name.split('/')[0]},1,1,2,2\n" for name in NAMES)
            ),
            reporter=heard,
        )
        assert any("'xmax' and 1 more. If they hold boxes" in line for line in heard.lines)

    def test_a_folder_that_is_called_like_a_table(self, write: Callable[..., Path]) -> None:
        folder = write("path,label\n" + rows()).parent
        assert not CsvSource().recognises(str(folder.rename(folder.with_name("photos.csv"))))


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "is empty: it needs a line 'path,label'"),
            ("\n \n", "is empty"),
            ("path,label\n", "has a header and no line below it"),
            ("path,name\n" + rows(), "has no column for the class among 'path', 'name': call it 'label'"),
            ("image_no,label\n" + rows(), "has no column for the path among 'image_no', 'label': call it 'path'"),
            (
                "path,label,class\ncat/0.png,a,b\n",
                "the columns 'label' and 'class' of .* could each be the class: rename",
            ),
            ("foo,bar\n" + rows(), "first line of .* names no columns .'foo', 'bar'., nor one file that exists"),
            ("cat/0.png,cat,1\ncat/1.png,cat,2\n", "not clear which column of .* holds the class"),
            (
                "path,label\ncat/0.png,\ncat/1.png,cat\ncat/2.png\n,cat\n",
                "lacks a path or a class in lines 2, 4, 5: fill",
            ),
            (
                "path,label\n" + rows() + "cat/0.png,dog\n",
                "cat/0.png has two classes in .*: 'cat' in line 2 and 'dog' in line 14",
            ),
            (
                "path,label\ngone.png,cat\n" + rows(),
                r"1 of 13 files that .* names are not there:\n  line 2: .*gone.png",
            ),
            ("path,label\ncat,cat\n" + rows(), r"1 of 13 files that .* names are not there:\n  line 2: .*data/cat"),
            ("path,label\n" + "x" * 5000 + ",cat\n", "1 of 1 files that"),
            ("image,label\ncat/0,cat\n", r"There is .*cat/0\.png: write paths with their suffixes"),
            ("path,label\ncat/0.PNG,cat\n", r"There is .*cat/0\.png: here upper and lower case differ"),
            ("path,label\n/content/drive/0.png,cat\n", "absolute paths, perhaps of another computer: write them rel"),
            ("path,label\nC:\\Users\\me\\0.png,cat\n", "absolute paths, perhaps of another computer: write them rel"),
            ("path,label\n" + rows() + "cat/0.png,cat,tabby\n", "has more cells in line 14 than in its first line"),
            ("path,label\n" + rows(names=NAMES[:6]), "has one class only, 'cat'"),
            ("path,label\n" + rows() + 'cat/0.png,"ca\n', "is no CSV file in line 14: unexpected end of data"),
            ("path,label\ncat/0.png,a\x1b[31mb\n", "character that cannot be printed in line 2"),
            ("path,label\ncat/0.png," + "a" * 1001 + "\n", "class of 1,001 characters in line 2"),
            (b"path,label\ncaf\xe9.png,cat\n", r"is not UTF-8 \(byte 14\): save it as CSV in UTF-8"),
            (b"path,label\ncat/0.png,c\0at\n", "null bytes"),
            (
                "path,label,split\ncat/0.png,cat,train\ncat/1.png,cat,holdout\n",
                "split 'holdout' in line 3: give one of tr",
            ),
            ("path,label,split\ncat/0.png,cat,test\n", "no line of the split 'train': its splits are test"),
            (
                "path,label,split\ncat/0.png,cat,train\ncat/0.png,cat,test\n",
                "cat/0.png has two splits in .*: 'train' in line 2 and 'test' in line 3",
            ),
            (
                "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,train\ncat/1.png,cat,test\n",
                "do not have the same classes: split 'test' lacks class 'dog'",
            ),
            ("path,label\ncat/0.png,\u00e9\ncat/1.png,e\u0301\n", "same name 'é' in two Unicode spellings"),
        ],
    )
    def test_each_has_its_sentence(self, write: Callable[..., Path], text: str | bytes, words: str) -> None:
        with pytest.raises(DataError, match=words):
            load(write(text))

    def test_no_such_table(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no data source .*gone\.csv"):
            load(tmp_path / "gone.csv")
        assert CsvSource().unavailable(DataRecipe.model_validate({"source": str(tmp_path / "gone.csv")})) == (
            f"{tmp_path}/gone.csv is missing"
        )

    def test_files_that_are_gone_or_broken_can_be_left_out(self, write: Callable[..., Path]) -> None:
        table = write("path,label\n" + rows())
        whole = load(table)
        first, second = whole.split("train").names[:2]
        (table.parent / first).unlink()
        (table.parent / second).write_text("text")
        data = load(table, skip_unreadable=True)
        assert data.split("train").names == whole.split("train").names[2:]
        assert data.split("test").fingerprint == whole.split("test").fingerprint
        assert load(table, splits=("test",)).split("test").fingerprint == whole.split("test").fingerprint
        (table.parent / first).write_text("text")
        with pytest.raises(UnreadableImagesError, match="2 image files cannot be read"):
            load(table)
