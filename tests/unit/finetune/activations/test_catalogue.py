from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from toolkit.errors import FileWriteError, ToolkitError
from toolkit.finetune.activations import catalogue as cache_folder
from toolkit.finetune.activations.cache import CacheWriter
from toolkit.finetune.activations.catalogue import (
    CacheKey,
    TensorSpec,
    bytes_needed,
    cache_root,
    clear,
    discard_abandoned,
    entries,
    find,
    free_bytes,
)

CHANGES: dict[str, object] = {
    "prefix_sha256": "0" * 64,
    "tensors": (("pool", (2, 4)),),
    "preprocessing": '{"resize":"crop"}',
    "normalization": '{"mean":[0.4]}',
    "dtype": "float32",
    "views": 2,
    "augmentation": '{"seed":2}',
    "data": "c" * 64,
    "engine": "onnxruntime 1.22",
    "rows": 6,
}


def make_key(**changes: object) -> CacheKey:
    fields: dict[str, object] = {
        "prefix_sha256": "a" * 64,
        "tensors": (("pool", (4, 2)),),
        "preprocessing": '{"resize":"squash"}',
        "normalization": '{"mean":[0.5]}',
        "dtype": "float16",
        "views": 1,
        "augmentation": "{}",
        "data": "b" * 64,
        "engine": "torch 2.9",
        "rows": 5,
    }
    return CacheKey.model_validate(fields | changes)


def write(root: Path, key: CacheKey) -> Path:
    with CacheWriter(root, key) as writer:
        writer.append([np.ones((key.rows, *shape), np.float32) for _, shape in key.tensors])
        cache = writer.seal()
    cache.close()
    return cache.folder


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


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


def test_everything_in_the_key_decides_the_digest() -> None:
    assert set(CHANGES) == set(CacheKey.model_fields)
    digests = {make_key().digest()} | {make_key(**{name: value}).digest() for name, value in CHANGES.items()}
    assert len(digests) == len(CHANGES) + 1
    assert make_key().digest() == make_key().digest()


def test_the_digest_outlives_json_and_changes_with_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key()
    assert CacheKey.from_json(key.to_json()).digest() == key.digest()
    before = key.digest()
    monkeypatch.setattr(cache_folder, "FORMAT_VERSION", cache_folder.FORMAT_VERSION + 1)
    assert key.digest() != before


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("float32", 4)])
def test_room_is_rows_times_elements_times_size(dtype: str, size: int) -> None:
    key = make_key(dtype=dtype, rows=1_000_000, tensors=(("a", (256, 14, 14)), ("b", (10,)), ("c", ())))
    assert bytes_needed(key) == 1_000_000 * (256 * 14 * 14 + 10 + 1) * size
    assert key.specs[0] == TensorSpec("a", (256, 14, 14))


def test_the_root_is_in_the_folder_of_what_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    assert cache_root() == tmp_path / "features"


def test_free_room_is_that_of_the_nearest_folder_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> object:
        asked.append(path)
        return SimpleNamespace(total=100, used=60, free=40)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.chdir(tmp_path)
    assert free_bytes(tmp_path / "not" / "there" / "yet") == 40
    assert free_bytes(Path("relative")) == 40
    assert asked == [tmp_path, tmp_path]


def test_entries_say_what_is_there_the_one_used_last_first(tmp_path: Path) -> None:
    old, new = make_key(), make_key(rows=6)
    os.utime(write(tmp_path, old) / "index.json", (1_600_000_000, 1_600_000_000))
    write(tmp_path, new)
    (tmp_path / "notes.txt").write_text("not a cache")
    (tmp_path / "other").mkdir()
    first, second = entries(tmp_path)
    assert (first.digest, first.rows, first.tensors, first.key) == (new.digest(), 6, (TensorSpec("pool", (4, 2)),), new)
    assert second.digest == old.digest()
    assert second.last_used == datetime.fromtimestamp(1_600_000_000, UTC)
    assert second.bytes == sum(path.stat().st_size for path in (tmp_path / old.digest()).iterdir()) > bytes_needed(old)
    assert second.created is not None
    assert abs(second.created.timestamp() - time.time()) < 60


def test_a_cache_with_a_broken_index_is_listed_and_can_be_cleared(tmp_path: Path) -> None:
    folder = write(tmp_path, make_key())
    (folder / "index.json").write_text("{")
    (entry,) = entries(tmp_path)
    assert (entry.rows, entry.tensors, entry.created, entry.key) == (None, (), None, None)
    assert clear(tmp_path, entry.digest) == bytes_needed(make_key()) + 1
    assert names(tmp_path) == []


def test_where_there_is_no_folder_there_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "nowhere", tmp_path / "file"):
        assert entries(root) == []
        assert clear(root, None) == 0
        assert discard_abandoned(root) == 0


def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(
        ToolkitError, match=r"cannot read .*: Permission denied\. Choose another folder with TOOLKIT_CACHE"
    ):
        entries(tmp_path)


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
    assert cache_folder.unfinished_bytes(tmp_path) == 96
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
    yesterday = time.time() - cache_folder.ABANDONED_SECONDS - 60
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
    cache_folder.remove(tmp_path / make_key().digest())
