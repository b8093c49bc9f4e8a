from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.bundle.content import Content, read_described, regular_file
from toolkit.bundle.writer import file_record
from toolkit.errors import BundleError, IntegrityError


def test_files_are_read_once_and_by_name(tmp_path: Path) -> None:
    for name, text in {"model.xml": b"<net/>", "model.bin": b"123"}.items():
        (tmp_path / name).write_bytes(text)
    content = Content.of(tmp_path / "model.xml", tmp_path / "model.bin")
    (tmp_path / "model.xml").write_bytes(b"changed")
    assert (content.main, content.where) == (b"<net/>", tmp_path / "model.xml")
    assert dict(content.files) == {"model.xml": b"<net/>", "model.bin": b"123"}
    assert "123" not in repr(content)


def test_an_engine_that_needs_a_path_gets_a_private_copy_that_goes(tmp_path: Path) -> None:
    content = Content(tmp_path / "a" / "model.onnx", "a/model.onnx", {"a/model.onnx": b"graph", "a/b/weights": b"1"})
    with content.as_files() as path:
        assert path.read_bytes() == b"graph"
        assert (path.parent / "b" / "weights").read_bytes() == b"1"
        folder = path.parents[1]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    with pytest.raises(ValueError, match="engine"), content.as_files() as path:
        raise ValueError("engine")
    assert not path.exists()


@pytest.mark.parametrize(("content", "sentence"), [(b"12", "has 2 bytes"), (b"124", "SHA-256 differs")])
def test_a_file_that_is_not_the_described_one_is_not_handed_over(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "file").write_bytes(b"123")
    record = file_record(tmp_path / "file")
    assert read_described(tmp_path / "file", record, tmp_path / "file") == b"123"
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(IntegrityError, match=sentence):
        read_described(tmp_path / "file", record, tmp_path / "file")
    (tmp_path / "file").unlink()
    with pytest.raises(BundleError, match="file cannot be read: No such file"):
        read_described(tmp_path / "file", record, tmp_path / "file")


def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name, sentence in {"pipe": "pipe or socket", "link": "is a symbolic link", ".": "is a folder"}.items():
        with pytest.raises(IntegrityError, match=sentence), regular_file(tmp_path / name):
            pass


def test_a_file_that_becomes_a_pipe_or_a_link_after_it_was_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "file", os.open
    (tmp_path / "secret").write_bytes(b"1")

    def swapped_for(become: Callable[[], None]) -> Callable[[Path, int], int]:
        def opened(file: Path, flags: int) -> int:
            path.unlink()
            become()
            return before(file, flags)

        return opened

    for become, error in ((lambda: os.mkfifo(path), IntegrityError), (lambda: path.symlink_to("secret"), OSError)):
        path.unlink(missing_ok=True)
        path.touch()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", swapped_for(become))
            with pytest.raises(error), regular_file(path):
                pass


def test_a_process_that_swaps_a_file_all_the_time_never_gets_another_one_in(tmp_path: Path) -> None:
    good, evil = b"good" * 1000, b"evil" * 1000
    path = tmp_path / "file"
    path.write_bytes(good)
    record, stopped = file_record(path), threading.Event()

    def swap() -> None:
        other = tmp_path / "other"
        while not stopped.is_set():
            for content in (evil, good):
                other.write_bytes(content)
                other.replace(path)

    racer = threading.Thread(target=swap)
    racer.start()
    outcomes = set()
    try:
        for _ in range(300):
            try:
                outcomes.add(read_described(path, record, path))
            except IntegrityError:
                outcomes.add(b"refused")
    finally:
        stopped.set()
        racer.join()
    assert evil not in outcomes
    assert outcomes <= {good, b"refused"}


@pytest.mark.parametrize(
    ("written", "found"),
    [(b"a\nb\n", b"a\r\nb\r\n"), (b"a\r\nb\r\n", b"a\nb\n"), (b"a\nb\r\n", None), (b"a\nb\n", b"a\r\nc\r\n")],
)
def test_line_ends_that_were_changed_are_called_so(tmp_path: Path, written: bytes, found: bytes | None) -> None:
    (tmp_path / "README.md").write_bytes(written)
    record = file_record(tmp_path / "README.md")
    (tmp_path / "README.md").write_bytes(found or b"")
    said = "README.md has other line ends than it was written with" if found and b"c" not in found else "bytes, its"
    with pytest.raises(IntegrityError, match=said):
        read_described(tmp_path / "README.md", record, tmp_path / "README.md")
