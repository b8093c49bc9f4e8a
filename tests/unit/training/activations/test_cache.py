from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from toolkit.errors import FileWriteError, TrainingError
from toolkit.progress import Bar, Silent
from toolkit.training.activations import row_file as cache_file
from toolkit.training.activations.cache import ActivationCache, CacheWriter, NotFiniteError, open_cache
from toolkit.training.activations.catalogue import CacheKey, bytes_needed
from toolkit.training.activations.cleaning import clear, unfinished_bytes

ROWS = 300
SHAPES = {"layer3": (7, 5, 2), "pool": (11,)}


class Spoken(Silent):
    """Keeps what is said, and how far each bar came."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[tuple[int, int]] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        counted = 0

        class Counter:
            def advance(self, steps: int = 1, **fields: str) -> None:
                nonlocal counted
                counted += steps

        yield Counter()
        self.bars.append((counted, total))


def make_key(**changes: object) -> CacheKey:
    fields: dict[str, object] = {
        "prefix_sha256": "a" * 64,
        "tensors": tuple(SHAPES.items()),
        "preprocessing": '{"resize":"squash"}',
        "normalization": '{"mean":[0.5]}',
        "dtype": "float16",
        "views": 3,
        "augmentation": '{"flip":true,"seed":1}',
        "data": "b" * 64,
        "engine": "torch 2.9",
        "rows": ROWS,
    }
    return CacheKey.model_validate(fields | changes)


def make_tensors(rows: int = ROWS) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    return [generator.normal(size=(rows, *shape)).astype(np.float32) for shape in SHAPES.values()]


def write(root: Path, key: CacheKey, tensors: list[np.ndarray], step: int = 64) -> ActivationCache:
    with CacheWriter(root, key) as writer:
        for start in range(0, len(tensors[0]), step):
            writer.append([tensor[start : start + step] for tensor in tensors])
        return writer.seal()


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several checksums per file without writing many megabytes."""
    monkeypatch.setattr(cache_file, "CHUNK_BYTES", 1000)


@pytest.fixture(params=[True, False], ids=["preadv", "seek"])
def positioned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read: that of most systems, and that of those without ``preadv``."""
    if request.param and not hasattr(os, "preadv"):
        pytest.skip("this system has no preadv")
    monkeypatch.setattr(cache_file, "_POSITIONED", request.param)


@pytest.mark.usefixtures("small_chunks", "positioned")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("step", [1, 64, ROWS])
def test_rows_come_back_in_the_order_asked(tmp_path: Path, dtype: str, step: int) -> None:
    tensors = make_tensors()
    key = make_key(dtype=dtype)
    write(tmp_path, key, tensors, step).close()
    opened = open_cache(tmp_path, key)
    assert opened is not None
    with opened:
        for rows in ([5, 6, 7, 8], [299, 0, 1, 2, 0, 0, 150], [9, 8, 7], list(range(ROWS)), [3], []):
            for tensor, expected in enumerate(tensors):
                found = opened.read(tensor, np.array(rows, np.int64))
                assert found.dtype == np.dtype(dtype)
                np.testing.assert_array_equal(found, expected[np.array(rows, np.int64)].astype(dtype))


def test_a_sealed_cache_is_read_at_once_and_its_size_is_what_was_announced(tmp_path: Path) -> None:
    tensors, key = make_tensors(), make_key()
    with write(tmp_path, key, tensors) as cache:
        np.testing.assert_array_equal(cache.read(1, np.array([4, 2])), tensors[1][[4, 2]].astype(np.float16))
        assert cache.folder == tmp_path / key.digest()
        assert (
            sum((cache.folder / name).stat().st_size for name in ("0.bin", "1.bin"))
            == bytes_needed(key)
            == ROWS * (70 + 11) * 2
        )


def test_arrays_that_lie_differently_in_memory_are_stored_in_the_order_of_their_shape(tmp_path: Path) -> None:
    tensors, key = make_tensors(), make_key(dtype="float32")
    channels_last = np.ascontiguousarray(tensors[0].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not channels_last.flags.c_contiguous
    with write(tmp_path, key, [channels_last, tensors[1]]) as cache:
        np.testing.assert_array_equal(cache.read(0, np.arange(ROWS)), tensors[0])


def test_one_number_per_row_is_a_tensor_too(tmp_path: Path) -> None:
    key = make_key(tensors=(("scale", ()),), rows=4, dtype="float32")
    with write(tmp_path, key, [np.arange(4, dtype=np.float32)], step=3) as cache:
        assert cache.read(0, np.array([3, 1])).tolist() == [3, 1]


def test_neighbouring_rows_are_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write(tmp_path, make_key(), make_tensors()) as cache:
        asked: list[int] = []
        original = cache_file.RowFile.fill

        def fill(self: cache_file.RowFile, target: memoryview, offset: int) -> int:
            asked.append(len(target))
            return original(self, target, offset)

        monkeypatch.setattr(cache_file.RowFile, "fill", fill)
        cache.read(1, np.array([10, 11, 12, 40, 41, 7]))
    assert asked == [3 * 22, 2 * 22, 22]


@pytest.mark.usefixtures("positioned")
def test_threads_read_without_disturbing_each_other(tmp_path: Path) -> None:
    tensors = make_tensors()
    with write(tmp_path, make_key(dtype="float32"), tensors) as cache:

        def read_often(seed: int) -> bool:
            generator = np.random.default_rng(seed)
            batches = [generator.integers(0, ROWS, 40) for _ in range(60)]
            return all(np.array_equal(cache.read(seed % 2, rows), tensors[seed % 2][rows]) for rows in batches)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read_often, range(8)))


@pytest.mark.parametrize("rows", [[0, ROWS], [-1]])
def test_a_row_that_is_not_there_is_refused(tmp_path: Path, rows: list[int]) -> None:
    with write(tmp_path, make_key(), make_tensors()) as cache, pytest.raises(IndexError, match="the cache has 300"):
        cache.read(0, np.array(rows))


def cut_short(folder: Path) -> None:
    os.truncate(folder / "0.bin", (folder / "0.bin").stat().st_size - 1)


def grow(folder: Path) -> None:
    with (folder / "1.bin").open("ab") as file:
        file.write(b"\0")


def flip_bit(at: int) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        with (folder / "0.bin").open("rb+") as file:
            file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 0x10]))

    return flip


def lose_file(folder: Path) -> None:
    (folder / "1.bin").unlink()


def lose_index(folder: Path) -> None:
    (folder / "index.json").unlink()


def edit_index(old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / "index.json").read_text()
        assert old in text
        (folder / "index.json").write_text(text.replace(old, new))

    return edit


def halve_index(folder: Path) -> None:
    os.truncate(folder / "index.json", (folder / "index.json").stat().st_size // 2)


def drop_checksum(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    del index["crc32"][0][7]
    (folder / "index.json").write_text(json.dumps(index))


def drop_file_checksums(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    del index["crc32"][1]
    (folder / "index.json").write_text(json.dumps(index))


def take_other_index(folder: Path) -> None:
    other = make_key(data="c" * 64)
    write(folder.parent.parent / "other", other, make_tensors()).close()
    (folder.parent.parent / "other" / other.digest() / "index.json").replace(folder / "index.json")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_short, r"0\.bin has 41999 bytes instead of 42000"),
        (grow, r"1\.bin has 6601 bytes instead of 6600"),
        (flip_bit(0), r"0\.bin is not what was written \(a wrong checksum from byte 0 on\)"),
        (flip_bit(20_500), r"0\.bin is not what was written \(a wrong checksum from byte 20000 on\)"),
        (flip_bit(-1), r"0\.bin is not what was written"),
        (lose_file, r"1\.bin cannot be read \(No such file or directory\)"),
        (lose_index, r"index\.json cannot be read \(No such file or directory\)"),
        (halve_index, r"index\.json is not an index of activations \(Invalid JSON"),
        (edit_index('"format": 1', '"format": 2'), r"index\.json is not in the format of this version"),
        (edit_index('"views": 3', '"views": 4'), r"index\.json describes other activations"),
        (edit_index('"created": "2', '"created": "x'), r"index\.json is not an index of activations"),
        (drop_checksum, r"0\.bin has 41 checksums in its index instead of 42"),
        (drop_file_checksums, r"index\.json is not in the format of this version"),
        (take_other_index, r"index\.json describes other activations"),
    ],
    ids=lambda value: "" if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_a_damaged_cache_is_named_removed_and_made_again(
    tmp_path: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    root, key, tensors, spoken = tmp_path / "features", make_key(), make_tensors(), Spoken()
    write(root, key, tensors).close()
    damage(root / key.digest())

    assert open_cache(root, key, spoken) is None
    (line,) = spoken.lines
    assert line.startswith(str(root))
    assert line.endswith("this cache is removed and computed again")
    assert re.search(complaint, line)
    assert names(root) == []
    write(root, key, tensors).close()
    opened = open_cache(root, key, spoken)
    assert opened is not None
    with opened:
        np.testing.assert_array_equal(opened.read(1, np.arange(ROWS)), tensors[1].astype(np.float16))
    assert len(spoken.lines) == 1


def test_the_check_reads_everything_once_and_shows_how_far_it_is(tmp_path: Path) -> None:
    key, spoken = make_key(), Spoken()
    write(tmp_path, key, make_tensors()).close()
    opened = open_cache(tmp_path, key, spoken)
    assert opened is not None
    opened.close()
    assert spoken.bars == [(bytes_needed(key), bytes_needed(key))]
    assert spoken.lines == []


def test_another_key_finds_nothing_and_harms_nothing(tmp_path: Path) -> None:
    key = make_key()
    write(tmp_path, key, make_tensors()).close()
    assert open_cache(tmp_path, make_key(data="c" * 64)) is None
    assert open_cache(tmp_path / "nowhere", key) is None
    assert names(tmp_path) == [key.digest()]


def test_opening_is_using(tmp_path: Path) -> None:
    key = make_key()
    write(tmp_path, key, make_tensors()).close()
    index = tmp_path / key.digest() / "index.json"
    os.utime(index, (1e9, 1e9))
    opened = open_cache(tmp_path, key)
    assert opened is not None
    opened.close()
    assert index.stat().st_mtime > 1.7e9


def test_a_file_that_is_cut_short_while_it_is_used_is_a_clear_error(tmp_path: Path) -> None:
    with write(tmp_path, make_key(), make_tensors()) as cache:
        cut_short(cache.folder)
        with pytest.raises(TrainingError, match=r"0\.bin was cut short while it was being used\. Run again"):
            cache.read(0, np.array([0, ROWS - 1]))
        cache.read(0, np.array([0, ROWS - 2]))


def test_a_disk_that_cannot_be_read_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with write(tmp_path, make_key(), make_tensors()) as cache:
        monkeypatch.setattr(cache_file.RowFile, "fill", broken)
        with pytest.raises(TrainingError, match=r"1\.bin cannot be read \(Input/output error\)"):
            cache.read(1, np.array([0]))


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps open files from being removed")
def test_clearing_does_not_take_an_open_cache_away(tmp_path: Path) -> None:
    key, tensors = make_key(), make_tensors()
    with write(tmp_path, key, tensors) as cache:
        assert clear(tmp_path, None) > bytes_needed(key)
        assert names(tmp_path) == []
        np.testing.assert_array_equal(cache.read(1, np.array([7])), tensors[1][[7]].astype(np.float16))


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with CacheWriter(tmp_path, make_key()) as writer:
            writer.append(make_tensors(10))
            assert [name.endswith(".part") for name in names(tmp_path)] == [True]
            raise OSError("an image could not be read")

    with pytest.raises(OSError, match="an image could not be read"):
        fail_half_way()
    assert names(tmp_path) == []


def test_missing_rows_cannot_be_sealed(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, make_key()) as writer:
        writer.append(make_tensors(10))
        with pytest.raises(ValueError, match="10 of 300 rows were written"):
            writer.seal()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "tensors",
    [
        make_tensors(10)[:1],
        make_tensors(10)[::-1],
        [make_tensors(10)[0], make_tensors(9)[1]],
        [tensor.astype(np.float64) for tensor in make_tensors(10)],
        make_tensors(ROWS + 1),
    ],
    ids=["too few tensors", "other order", "other numbers of rows", "other type", "too many rows"],
)
def test_rows_that_are_not_those_of_the_key_are_refused(tmp_path: Path, tensors: list[np.ndarray]) -> None:
    with CacheWriter(tmp_path, make_key()) as writer, pytest.raises(ValueError, match=r"expected|the key says"):
        writer.append(tensors)


def test_a_value_beyond_float16_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    tensors = make_tensors()
    tensors[1][123, 4] = -65_520  # the smallest in size that float16 rounds to infinity
    with CacheWriter(tmp_path, make_key()) as writer:
        writer.append([tensor[:100] for tensor in tensors])
        with pytest.raises(NotFiniteError, match="pool has values beyond the range of float16") as raised:
            writer.append([tensor[100:] for tensor in tensors])
        assert raised.value.tensor == "pool"
        tensors[1][123, 4] = -65_519
        writer.append([tensor[100:] for tensor in tensors])
        with writer.seal() as cache:
            assert cache.read(1, np.array([123]))[0, 4] == -65_504
            np.testing.assert_array_equal(cache.read(0, np.arange(ROWS)), tensors[0].astype(np.float16))


def test_what_is_not_finite_before_stays_as_it_is(tmp_path: Path) -> None:
    tensors = make_tensors()
    tensors[1][0, :3] = [np.inf, -np.inf, np.nan]
    with write(tmp_path, make_key(), tensors) as cache:
        np.testing.assert_array_equal(
            cache.read(1, np.array([0]))[0, :3], np.array([np.inf, -np.inf, np.nan], np.float16)
        )


def test_float32_holds_what_float16_cannot(tmp_path: Path) -> None:
    tensors = make_tensors()
    tensors[0][5] = 1e30
    with write(tmp_path, make_key(dtype="float32"), tensors) as cache:
        assert (cache.read(0, np.array([5])) == np.float32(1e30)).all()


class FullDisk(io.FileIO):
    """Takes some bytes and then no more, as a disk does."""

    room = 20_000

    def write(self, content: object) -> int:
        view = memoryview(content)  # type: ignore[call-overload]
        if FullDisk.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(len(view), FullDisk.room)
        FullDisk.room -= taken
        return super().write(view[:taken])


@pytest.mark.parametrize("room", [0, 5_000, 42_000 + 6_000])
def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    original = Path.open

    def open_on_full_disk(self: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        return (
            io.BufferedWriter(FullDisk(self, "x"))
            if self.suffix == ".bin"
            else original(self, mode, *arguments, **options)
        )  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    monkeypatch.setattr(FullDisk, "room", room)
    with pytest.raises(
        FileWriteError, match=rf"cannot write activations to {tmp_path}: No space left on device\. Free some space"
    ):
        write(tmp_path, make_key(), make_tensors())
    assert names(tmp_path) == []


def test_a_disk_that_admits_only_when_flushed_that_it_is_full_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileWriteError, match="No space left on device"):
        write(tmp_path, make_key(), make_tensors())
    assert names(tmp_path) == []


def test_an_index_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileWriteError, match=r"cannot write .*index\.json: No space left on device"):
        write(tmp_path, make_key(), make_tensors())
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files, which Windows does not have")
def test_a_limit_of_the_system_on_files_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(FileWriteError, match="File too large"):
            write(tmp_path, make_key(), make_tensors())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


def test_a_cache_that_cannot_get_its_name_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FileWriteError, match=r"cannot write activations to .*: Permission denied"):
        write(tmp_path, make_key(), make_tensors())
    assert names(tmp_path) == []


def test_a_root_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file")
    with (
        pytest.raises(FileWriteError, match=r"cannot write activations to .*features: "),
        CacheWriter(tmp_path / "features", make_key()),
    ):
        pytest.fail("there is no folder to write to")


def test_the_second_to_finish_uses_what_the_first_made(tmp_path: Path) -> None:
    tensors, key = make_tensors(), make_key()
    with CacheWriter(tmp_path, key) as slow:
        slow.append(tensors)
        write(tmp_path, key, tensors).close()
        made = (tmp_path / key.digest() / "0.bin").stat().st_ino
        with slow.seal() as cache:
            assert names(tmp_path) == [key.digest()]
            assert (cache.folder / "0.bin").stat().st_ino == made
            np.testing.assert_array_equal(cache.read(0, np.arange(ROWS)), tensors[0].astype(np.float16))
    assert names(tmp_path) == [key.digest()]


def test_what_the_first_made_is_not_used_if_it_is_damaged(tmp_path: Path) -> None:
    tensors, key = make_tensors(), make_key()
    with CacheWriter(tmp_path, key) as slow:
        slow.append(tensors)
        write(tmp_path, key, tensors).close()
        flip_bit(100)(tmp_path / key.digest())
        slow.seal().close()
    opened = open_cache(tmp_path, key)
    assert opened is not None
    opened.close()


def test_many_finish_the_same_cache_at_once(tmp_path: Path) -> None:
    tensors, key, together = make_tensors(), make_key(), threading.Barrier(6)

    def make(_: int) -> bool:
        with CacheWriter(tmp_path, key) as writer:
            writer.append(tensors)
            together.wait(20)
            with writer.seal() as cache:
                return np.array_equal(cache.read(1, np.arange(ROWS)), tensors[1].astype(np.float16))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(make, range(6)))
    assert names(tmp_path) == [key.digest()]


def test_what_is_handed_over_has_no_name_and_is_not_found(tmp_path: Path) -> None:
    key = make_key(rows=2, tensors=(("pool", (3,)),))
    with CacheWriter(tmp_path, key) as writer:
        writer.append([np.ones((2, 3), np.float32)])
        cache = writer.hand_over()
    assert cache.read(0, np.array([1])).tolist() == [[1, 1, 1]]
    assert open_cache(tmp_path, key) is None
    assert [folder.name for folder in tmp_path.iterdir()] == [cache.folder.name]
    assert unfinished_bytes(tmp_path) == 2 * 3 * 2
    cache.close()
    with CacheWriter(tmp_path, key) as writer, pytest.raises(ValueError, match="0 of 2 rows were written"):
        writer.hand_over()
    assert [folder.name for folder in tmp_path.iterdir()] == [cache.folder.name]
