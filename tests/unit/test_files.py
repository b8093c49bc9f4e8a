from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from toolkit.errors import FileWriteError
from toolkit.files import atomic_path, follow_link, point_link, sha256_file, write_bytes, write_text


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    write_bytes(target, b"old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the new")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()

    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_temporary_file_keeps_the_suffix_and_the_folder_is_made(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "picture.png"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == target.parent
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    write_text(target, "old")
    with (
        pytest.raises(FileWriteError, match=r"cannot write .*weights: No space left on device"),
        atomic_path(target) as temporary,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))
    assert target.read_text() == "old"


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file")
    with pytest.raises(FileWriteError, match=r"cannot write .*run.json"):
        write_text(tmp_path / "artifacts" / "run.json", "{}")


def test_an_error_about_another_file_is_not_blamed_on_the_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "target"):
        (tmp_path / "source that is not there").read_bytes()


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    write_bytes(tmp_path / "file", content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_link_moves_from_one_folder_to_the_next(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        point_link(tmp_path / "latest", tmp_path / name)
        assert follow_link(tmp_path / "latest") == (tmp_path / name).resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "latest", "second"]


def test_without_symbolic_links_a_text_file_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("symbolic links are not allowed here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "run").mkdir()
    point_link(tmp_path / "latest", tmp_path / "run")
    assert not (tmp_path / "latest").is_symlink()
    assert follow_link(tmp_path / "latest") == (tmp_path / "run").resolve()
