"""Which files are images by their names."""

from __future__ import annotations

import pytest

from toolkit.image_files import IMAGE_SUFFIXES, image_by_name, left_by_a_system, not_images


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
