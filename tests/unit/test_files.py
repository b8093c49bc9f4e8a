from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit import files
from toolkit.errors import FileWriteError
from toolkit.files import (
    NotRegularError,
    atomic_path,
    expanded,
    follow_link,
    is_written,
    new_folder,
    not_regular,
    only_writer,
    open_regular,
    point_link,
    read_regular,
    read_text,
    require_writable,
    sha256_file,
    size_text,
    stands_for_another,
    sync_files,
    write_bytes,
    write_text,
)


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


def test_a_folder_far_above_that_cannot_be_made_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "artifacts"))

    monkeypatch.setattr(Path, "mkdir", refuse)  # as the system does below /proc
    with pytest.raises(FileWriteError, match=r"cannot write .*run.json: No such file or directory"):
        write_text(tmp_path / "artifacts" / "mine" / "run.json", "{}")


@pytest.mark.parametrize("given", [".", "new", "new/inside", "file", "file/inside", "link/inside"])
def test_a_folder_is_tried_before_the_work_and_left_as_it_was(tmp_path: Path, given: str) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    before = sorted(tmp_path.iterdir())
    if given.startswith(("file", "link")):
        blocking = tmp_path / given.split("/")[0]
        with pytest.raises(
            FileWriteError, match=rf"cannot write into .*{given}: {blocking} is no folder\. Another one\."
        ):
            require_writable(tmp_path / given, "Another one.")
    else:
        require_writable(tmp_path / given)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "open", refuse)  # who runs the tests may be root
    with pytest.raises(FileWriteError, match=r"cannot write into .*: Permission denied\. Free some space"):
        require_writable(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="folders are not locked there")
def test_one_process_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    with only_writer(tmp_path) as first:
        with only_writer(tmp_path) as second:
            assert (first, second) == (True, False)
        with only_writer(tmp_path) as third:
            assert not third
    with only_writer(tmp_path) as after:
        assert after
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="folders are not locked there")
def test_who_only_looks_does_not_keep_a_writer_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_written(tmp_path)
    with only_writer(tmp_path):
        assert is_written(tmp_path)
    looking = only_writer(tmp_path)
    looking.__enter__()
    monkeypatch.setattr("time.sleep", lambda seconds: looking.__exit__(None, None, None))
    with only_writer(tmp_path) as alone:
        assert alone


def test_what_cannot_be_locked_has_one_writer(tmp_path: Path) -> None:
    with only_writer(tmp_path / "gone") as alone:
        assert alone


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


@pytest.fixture(params=["a pipe", "a socket", "a device", "a folder", "a link to a pipe"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A path that is no regular file, and what a sentence calls it."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes, sockets and devices in its file system")
    path, kind, listening = tmp_path / "a.png", request.param, socket.socket(socket.AF_UNIX)
    if kind == "a device":
        path = Path("/dev/zero")
    elif kind == "a socket":
        listening.bind(str(path))
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe" if "link" in kind else path)
        if "link" in kind:
            path.symlink_to(tmp_path / "pipe")
    yield path, kind.removeprefix("a link to ")
    listening.close()


@pytest.mark.parametrize("read", [open_regular, read_regular, read_text, sha256_file])
def test_only_regular_files_are_read(no_file: tuple[Path, str], read: Callable[[Path], object]) -> None:
    path, kind = no_file
    with pytest.raises(NotRegularError, match=kind) as caught:
        read(path)
    assert caught.value.strerror == f"it is {kind}"
    assert not_regular(path.stat().st_mode) == f"it is {kind}"


def test_a_file_that_becomes_a_pipe_after_it_was_looked_at_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes in its file system")
    regular = tmp_path / "regular"
    regular.touch()
    os.mkfifo(tmp_path / "pipe")
    before = regular.stat()
    monkeypatch.setattr(files.os, "stat", lambda _: before)
    with pytest.raises(NotRegularError, match="it is a pipe"):
        open_regular(tmp_path / "pipe")


def test_what_no_table_of_kinds_knows_is_no_regular_file() -> None:
    assert not_regular(0) == "it is no regular file"
    assert not_regular(stat.S_IFREG | 0o644) is None


def test_a_file_is_read_whole_and_text_ends_its_lines_with_line_feeds(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("é\r\nb\n".encode())
    assert read_regular(tmp_path / "file") == "é\r\nb\n".encode()
    assert read_text(tmp_path / "file") == "é\nb\n"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "gone")


def test_only_a_regular_file_is_replaced(no_file: tuple[Path, str]) -> None:
    path, kind = no_file
    before = path.stat()
    with pytest.raises(FileWriteError, match=rf"cannot write .*: it is {kind}\. Name a file"):
        write_bytes(path, b"new")
    assert path.stat().st_mode == before.st_mode


def test_files_are_synced_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    calls: list[str] = []
    monkeypatch.setattr(files.os, "fsync", lambda _: calls.append("fsync"))
    sync_files(tmp_path)
    assert calls == [] or not hasattr(os, "sync")


def test_where_the_c_library_cannot_everything_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "sync"):
        pytest.skip("this system syncs file by file")
    calls: list[str] = []
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    monkeypatch.setattr(files.os, "sync", lambda: calls.append("sync"))
    sync_files(tmp_path)
    assert calls == ["sync"]


@pytest.mark.parametrize("given", ["~nobody-of-this-name/x", "~nobody-of-this-name", "plain/~x"])
def test_a_home_that_there_is_not_is_left_as_it_was_written(given: str) -> None:
    assert expanded(given) == Path(given)


def test_a_home_is_written_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE HTML>", "web page"),
        (b"<html lang='en'>", "web page"),
    ],
)
def test_what_stands_for_another_file_is_named(head: bytes, reason: str) -> None:
    assert reason in (stands_for_another(head) or "")


@pytest.mark.parametrize("head", [b"", b"\xff\xd8\xff", b"\x89PNG", b"<svg", b"version 2"])
def test_other_files_stand_for_themselves(head: bytes) -> None:
    assert stands_for_another(head) is None


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0.0 MB"), (13_564_849, "13.6 MB"), (999_949_999, "999.9 MB"), (2_500_000_000, "2.50 GB")]
)
def test_sizes_have_their_unit(count: int, said: str) -> None:
    assert size_text(count) == said


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "it"
    for text in ("old", "new"):
        with new_folder(target, "the thing") as folder:
            (folder / text).write_text(text)
            assert folder.parent == target.parent
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["it"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), ValueError("a bug"), KeyboardInterrupt()])
def test_a_folder_that_is_not_finished_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    expected = FileWriteError if isinstance(error, OSError) else type(error)

    def write() -> None:
        with new_folder(tmp_path / "a" / "b" / "it", "the thing") as folder:
            (folder / "half").touch()
            raise error

    with pytest.raises(expected) as raised:
        write()
    assert list(tmp_path.iterdir()) == []
    if isinstance(error, OSError):
        assert str(raised.value).startswith(f"cannot write the thing {tmp_path / 'a' / 'b' / 'it'}: No space left.")


def test_an_old_folder_stays_where_the_new_one_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "old").touch()
    with pytest.raises(ValueError, match="a bug"), new_folder(tmp_path / "it", "the thing"):
        raise ValueError("a bug")
    assert [path.name for path in (tmp_path / "it").iterdir()] == ["old"]


def test_what_a_kill_between_the_renames_left_is_restored(tmp_path: Path) -> None:
    (tmp_path / ".it.old").mkdir()
    (tmp_path / ".it.old" / "old").touch()
    with pytest.raises(ValueError, match="a bug"), new_folder(tmp_path / "it", "the thing"):
        raise ValueError("a bug")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert (tmp_path / "it" / "old").exists()


class TestErrorsOfOtherLanguages:
    """torch.jit says of a full disk that it cannot write a file, and not why."""

    def write(self, folder: Path) -> None:
        with new_folder(folder / "it", "the thing") as building, atomic_path(building / "file") as temporary:
            temporary.write_text("half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    def test_on_a_full_disk_they_are_that(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(**_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("tempfile.TemporaryFile", full)
        sentence = (
            r"^cannot write .*file: No space left on device\. Free some space or choose a folder you may write to\.$"
        )
        with pytest.raises(FileWriteError, match=sentence):
            self.write(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_where_there_is_room_they_are_themselves(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError, match="file write failed"):
            self.write(tmp_path)
        assert list(tmp_path.iterdir()) == []
