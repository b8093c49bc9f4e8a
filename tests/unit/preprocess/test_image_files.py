"""Which files are images, and which of them lie below a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pictures import encoded, noise
from PIL import Image

from toolkit.errors import ImageError
from toolkit.preprocess import (
    IMAGE_SUFFIXES,
    image_by_name,
    left_by_a_system,
    list_folder,
    list_images,
    not_images,
)


def test_suffixes_are_lower_case() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat.JPG", True),
        ("cat.HEIC", True),
        ("cat.avif", True),
        ("notes.txt", False),
        ("cat.jpg.txt", False),
        ("cat.CR2", False),
        ("cat", None),
        ("2019.07.14", None),
        ("cat.", None),
    ],
)
def test_the_name_decides_where_it_says_something(name: str, expected: bool | None) -> None:
    assert image_by_name(name) is expected


@pytest.mark.parametrize("name", [".DS_Store", "._cat.jpg", ".git", "Thumbs.db", "__MACOSX", "@eaDir", "desktop.ini"])
def test_what_systems_leave(name: str) -> None:
    assert left_by_a_system(name)
    assert not left_by_a_system("cat")


def test_files_that_are_no_images_are_counted() -> None:
    assert not_images("train/cat", []) is None
    assert not_images("train/cat", ["a.txt"]) == "1 file in train/cat is no image by its name: .txt (1)"
    names = [f"{number}.CR2" for number in range(15)] + ["README", "a.txt"]
    assert not_images("train/cat", names) == (
        "17 files in train/cat are no images by their name: .CR2 (15), .txt (1), no suffix (1)"
    )
    assert (not_images("x", [f"a.{letter}" for letter in "abcdefgh"]) or "").endswith(".e (1), others (3)")
    assert (not_images("x", ["a.\x1b[31m", "b.\udce9"]) or "").endswith(r": .\x1b[31m (1), .\udce9 (1)")


class TestListImages:
    def test_files_that_are_no_images_are_listed_apart(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "b.CR2", "c/README", "c/notes.txt", "Thumbs.db", "__MACOSX/x.jpg", "._a.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        listing = list_folder(tmp_path)
        assert [path.name for path in listing.images] == ["a.jpg"]
        assert [path.name for path in listing.others] == ["b.CR2", "README", "notes.txt"]

    def test_without_a_suffix_the_content_decides(self, tmp_path: Path) -> None:
        content = encoded(Image.fromarray(noise()), "PNG")
        for name, written in (("a", content), ("2019.07.14", content), ("b", b"BM is no bitmap"), ("c.txt", content)):
            (tmp_path / name).write_bytes(written)
        (tmp_path / "link").symlink_to(tmp_path / "gone")
        assert [path.name for path in list_images(tmp_path)] == ["2019.07.14", "a"]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
    def test_a_pipe_without_a_suffix_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert list_images(tmp_path) == []

    def test_sorted_recursive_and_without_hidden_files(self, tmp_path: Path) -> None:
        for name in ["b/2.PNG", "b/10.png", "a.jpg", "é.webp", "notes.txt", ".hidden.png", ".git/x.png", "b/.DS_Store"]:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)] == [
            "a.jpg",
            "b/10.png",
            "b/2.PNG",
            "é.webp",
        ]

    def test_links_are_followed_once(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a.png").touch()
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "linked").symlink_to(tmp_path / "real")
        (tmp_path / "pictures" / "loop").symlink_to(tmp_path / "pictures")
        (tmp_path / "pictures" / "b.png").symlink_to(tmp_path / "real" / "a.png")
        assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path / "pictures")] == [
            "pictures/b.png",
            "pictures/linked/a.png",
        ]

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="gone cannot be listed"):
            list_images(tmp_path / "gone")
