from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from toolkit.data import identical
from toolkit.data.identical import first_of_each, identical_files


def files(folder: Path, contents: list[bytes]) -> list[Path]:
    paths = [folder / f"{number:02d}.png" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_each_is_given_the_first_that_equals_it() -> None:
    assert first_of_each("abacba").tolist() == [0, 1, 0, 3, 1, 0]


def test_copies_and_links_are_found_by_content(tmp_path: Path) -> None:
    paths = files(tmp_path, [b"one", b"two", b"one", b"three"])
    (tmp_path / "soft.png").symlink_to(paths[1])
    (tmp_path / "hard.png").hardlink_to(paths[3])
    listed = identical_files([*paths, tmp_path / "soft.png", tmp_path / "hard.png"])
    assert listed.first.tolist() == [0, 1, 0, 3, 1, 3]
    assert listed.digests[2] == hashlib.sha256(b"one").digest()


def test_the_same_size_and_the_same_middle_are_not_yet_the_same_content(tmp_path: Path) -> None:
    middle = bytes(3 * 4096)
    paths = files(tmp_path, [b"a" + middle + b"a", b"b" + middle + b"b", b"a" + middle + b"a"])
    assert identical_files(paths).first.tolist() == [0, 1, 0]


def test_only_files_with_a_twin_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    digest = identical._digest
    monkeypatch.setattr(identical, "_digest", lambda path: (read.append(path.name), digest(path))[1])
    identical_files(files(tmp_path, [b"alone", b"twin", b"other size", b"twin", b"same", b"size"]))
    assert sorted(read) == ["01.png", "03.png"]


def test_what_cannot_be_read_is_like_no_other(tmp_path: Path) -> None:
    gone = [tmp_path / "gone.png", tmp_path / "gone too.png", tmp_path]
    assert identical_files(gone).first.tolist() == [0, 1, 2]


def test_no_files() -> None:
    assert identical_files([]).first.tolist() == []
