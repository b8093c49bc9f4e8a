from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from activation_caches import make_key, names, write

from toolkit.errors import FileWriteError, ToolkitError
from toolkit.training.activations import cleaning
from toolkit.training.activations.cache import CacheWriter
from toolkit.training.activations.catalogue import bytes_needed, entries, find
from toolkit.training.activations.cleaning import clear, discard_abandoned


@pytest.fixture(scope="module")
def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.fixture
def living_pid() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        yield waiting.pid
        assert waiting.stdin is not None
        waiting.stdin.write(b"\n")


def half_written(root: Path, pid: int) -> Path:
    """Make what a process with this number leaves when it is killed while it writes."""
    with CacheWriter(root, make_key()) as writer:
        writer.append([np.ones((3, 4, 2), np.float32)])
        (name,) = (name for name in names(root) if f".{os.getpid()}-" in name)
        left = root / name.replace(f".{os.getpid()}-", f".{pid}-")
        shutil.copytree(root / name, left)
        (left / "0.bin").write_bytes(b"x" * 48)
    return left


def test_a_cache_with_a_broken_index_is_listed_and_can_be_cleared(tmp_path: Path) -> None:
    folder = write(tmp_path, make_key())
    (folder / "index.json").write_text("{")
    (entry,) = entries(tmp_path)
    assert (entry.rows, entry.tensors, entry.created, entry.key) == (None, (), None, None)
    assert clear(tmp_path, entry.digest) == bytes_needed(make_key()) + 1
    assert names(tmp_path) == []


def test_clear_frees_one_or_all(tmp_path: Path) -> None:
    keys = [make_key(rows=rows) for rows in (1, 2, 3)]
    for key in keys:
        write(tmp_path, key)
    size = find(tmp_path, keys[1].digest()[:12]).bytes
    assert clear(tmp_path, keys[1].digest()[:12].upper()) == size
    assert names(tmp_path) == sorted([keys[0].digest(), keys[2].digest()])
    assert clear(tmp_path, None) == pytest.approx(2 * size, abs=100)
    assert names(tmp_path) == []


def test_digits_must_fit_one_cache(tmp_path: Path) -> None:
    for rows in range(1, 18):  # more than there are hexadecimal digits: two digests begin alike
        write(tmp_path, make_key(rows=rows))
    before = names(tmp_path)
    twice = next(digit for digit in "0123456789abcdef" if sum(name.startswith(digit) for name in before) > 1)
    with pytest.raises(
        ToolkitError, match=rf"\d+ caches in .* have digests that start with '{twice}': give the digits of one"
    ):
        clear(tmp_path, twice)
    with pytest.raises(ToolkitError, match=r"no cache in .* has a digest that starts with 'xyz'"):
        clear(tmp_path, "xyz")
    assert names(tmp_path) == before


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_kept(
    tmp_path: Path, dead_pid: int, living_pid: int
) -> None:
    kept = write(tmp_path, make_key(rows=1))
    half_written(tmp_path, dead_pid)
    living = half_written(tmp_path, living_pid)
    assert cleaning.unfinished_bytes(tmp_path) == 96
    assert discard_abandoned(tmp_path) == 48
    assert names(tmp_path) == sorted([kept.name, living.name])


def test_what_another_users_process_writes_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half_written(tmp_path, 4242)

    def refuse(pid: int, signal: int) -> None:
        assert (pid, signal) == (4242, 0)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert discard_abandoned(tmp_path) == 0


def test_a_number_that_is_in_use_again_does_not_keep_it_for_ever(tmp_path: Path) -> None:
    left = half_written(tmp_path, os.getpid() if os.name == "nt" else 1)
    assert discard_abandoned(tmp_path) == 0
    yesterday = time.time() - cleaning.ABANDONED_SECONDS - 60
    for path in (*left.iterdir(), left):
        os.utime(path, (yesterday, yesterday))
    assert discard_abandoned(tmp_path) == 48
    assert names(tmp_path) == []


def test_clearing_everything_takes_what_was_left_too_but_nothing_that_is_being_written(
    tmp_path: Path, dead_pid: int
) -> None:
    write(tmp_path, make_key(rows=1))
    half_written(tmp_path, dead_pid)
    with CacheWriter(tmp_path, make_key()) as writer:
        writer.append([np.ones((5, 4, 2), np.float32)])
        assert clear(tmp_path, None) > 48
        assert [name.endswith(".part") for name in names(tmp_path)] == [True]
        writer.seal().close()
    assert names(tmp_path) == [make_key().digest()]


def test_a_removal_that_is_killed_leaves_no_half_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, make_key())

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        clear(tmp_path, None)
    assert entries(tmp_path) == []
    assert not folder.exists()


def test_a_cache_that_cannot_be_removed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, make_key())

    def refuse(*_: object) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FileWriteError, match=rf"cannot remove {folder}: Permission denied\. Remove it by hand"):
        clear(tmp_path, None)


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    cleaning.remove(tmp_path / make_key().digest())
