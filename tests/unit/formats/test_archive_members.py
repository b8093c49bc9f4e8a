from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from toolkit.formats.archive_members import rewrite


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("model/weights", b"\x00" * 1000)
        made.writestr("model/notes", b"made in /home/somebody")
    return path


def test_members_are_changed_left_out_and_kept(archive: Path) -> None:
    rewrite(archive, lambda name, content: None if name.endswith("notes") else content + b"!")
    with zipfile.ZipFile(archive) as made:
        assert made.namelist() == ["model/weights"]
        assert made.read("model/weights") == b"\x00" * 1000 + b"!"
        assert made.getinfo("model/weights").compress_type == zipfile.ZIP_STORED


def test_two_rewrites_give_the_same_bytes(archive: Path) -> None:
    rewrite(archive, lambda _, content: content)
    once = archive.read_bytes()
    rewrite(archive, lambda _, content: content)
    assert archive.read_bytes() == once


def test_a_failure_leaves_the_old_archive(archive: Path) -> None:
    before = archive.read_bytes()

    def fail(name: str, content: bytes) -> bytes:
        raise ValueError(name)

    with pytest.raises(ValueError, match="model/weights"):
        rewrite(archive, fail)
    assert archive.read_bytes() == before
    assert list(archive.parent.iterdir()) == [archive]
