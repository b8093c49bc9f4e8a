from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from activation_caches import make_key, make_prefix_key, write

from toolkit.errors import ToolkitError
from toolkit.training.activations import catalogue
from toolkit.training.activations.catalogue import (
    CacheKey,
    PrefixKey,
    TensorSpec,
    bytes_needed,
    cache_root,
    entries,
    free_bytes,
    prefix_root,
)
from toolkit.training.activations.cleaning import clear, discard_abandoned

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


PREFIX_CHANGES: dict[str, object] = {
    "network_sha256": "0" * 64,
    "division_sha256": "",
    "image_size": (8, 16),
    "packages": (("torch", "2.10"), ("onnxruntime", "1.22")),
    "processor": "x86_64 AVX512",
    "toolkit": "0.3",
}


def test_everything_in_the_key_decides_the_digest() -> None:
    assert set(CHANGES) == set(CacheKey.model_fields)
    digests = {make_key().digest()} | {make_key(**{name: value}).digest() for name, value in CHANGES.items()}
    assert len(digests) == len(CHANGES) + 1
    assert make_key().digest() == make_key().digest()


def test_the_digest_outlives_json_and_changes_with_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key()
    assert CacheKey.from_json(key.to_json()).digest() == key.digest()
    before = key.digest()
    monkeypatch.setattr(catalogue, "FORMAT_VERSION", catalogue.FORMAT_VERSION + 1)
    assert key.digest() != before


def test_everything_in_the_key_of_a_prefix_decides_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(PREFIX_CHANGES) == set(PrefixKey.model_fields)
    before = make_prefix_key().digest()
    digests = {make_prefix_key(**{name: value}).digest() for name, value in PREFIX_CHANGES.items()}
    assert len(digests | {before}) == len(PREFIX_CHANGES) + 1
    assert PrefixKey.from_json(make_prefix_key().to_json()).digest() == before
    monkeypatch.setattr(catalogue, "PREFIX_FORMAT_VERSION", catalogue.PREFIX_FORMAT_VERSION + 1)
    assert make_prefix_key().digest() != before


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("float32", 4)])
def test_room_is_rows_times_elements_times_size(dtype: str, size: int) -> None:
    key = make_key(dtype=dtype, rows=1_000_000, tensors=(("a", (256, 14, 14)), ("b", (10,)), ("c", ())))
    assert bytes_needed(key) == 1_000_000 * (256 * 14 * 14 + 10 + 1) * size
    assert key.specs[0] == TensorSpec("a", (256, 14, 14))


def test_the_root_is_in_the_folder_of_what_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path))
    assert cache_root() == tmp_path / "features"
    assert prefix_root() == tmp_path / "prefixes"


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
