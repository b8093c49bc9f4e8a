"""Pictures of a page: JPEG files below the run's folder, and nothing else."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from toolkit.report import thumbnails
from toolkit.report.thumbnails import Thumbnails, read_thumbnail

PICTURE = b"\xff\xd8\xff\xe0 a picture"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a picture, and one outside of it."""
    (tmp_path / "run" / "review").mkdir(parents=True)
    (tmp_path / "run" / "review" / "1.jpg").write_bytes(PICTURE)
    (tmp_path / "secret.jpg").write_bytes(PICTURE)
    return tmp_path / "run"


def test_a_picture_stands_in_the_page(run: Path) -> None:
    assert Thumbnails(run).uri("review/1.jpg") == f"data:image/jpeg;base64,{base64.b64encode(PICTURE).decode()}"


def test_no_name_and_no_folder_are_no_picture(run: Path) -> None:
    assert Thumbnails(run).uri(None) is None
    assert Thumbnails(None).uri("review/1.jpg") is None


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "review/../../secret.jpg",
        "./review/1.jpg",
        "review//1.jpg",
        "review\\1.jpg",
        "C:review/1.jpg",
        "review/1.jpg\0",
        "review",
        "review/2.jpg",
        "",
    ],
)
def test_names_that_are_not_plain_paths_below_it(run: Path, name: str) -> None:
    assert read_thumbnail(run, name) is None


def test_an_absolute_path(run: Path) -> None:
    assert read_thumbnail(run, str(run.parent / "secret.jpg")) is None


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links need rights of their own on Windows")
def test_links_are_not_followed_neither_as_the_file_nor_on_the_way(run: Path) -> None:
    (run / "review" / "link.jpg").symlink_to(run.parent / "secret.jpg")
    (run / "out").symlink_to(run.parent)
    assert read_thumbnail(run, "review/link.jpg") is None
    assert read_thumbnail(run, "out/secret.jpg") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(run: Path) -> None:
    os.mkfifo(run / "review" / "pipe.jpg")
    assert read_thumbnail(run, "review/pipe.jpg") is None


def test_what_is_no_jpeg_or_no_thumbnail(run: Path) -> None:
    (run / "review" / "text.jpg").write_bytes(b"<svg onload=alert(1)>")
    (run / "review" / "large.jpg").write_bytes(PICTURE + bytes(thumbnails.LARGEST))
    assert read_thumbnail(run, "review/text.jpg") is None
    assert read_thumbnail(run, "review/large.jpg") is None


def test_a_page_that_is_full_leaves_pictures_out_and_counts_them(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "LARGEST_SUM", len(PICTURE))
    (run / "review" / "2.jpg").write_bytes(PICTURE)
    pictures = Thumbnails(run)
    assert pictures.uri("review/1.jpg") is not None
    assert pictures.uri("review/1.jpg") is not None  # again, from memory
    assert pictures.uri("review/2.jpg") is None
    assert pictures.left_out == 1
