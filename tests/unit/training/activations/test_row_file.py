from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from toolkit.training.activations import row_file as cache_file
from toolkit.training.activations.row_file import Checksums, RowFile


@pytest.mark.parametrize("sizes", [[10], [3, 3, 4], [1] * 10, [4, 4, 2], [8], [], [0, 5, 0, 5]])
def test_checksums_do_not_depend_on_how_the_bytes_arrive(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    monkeypatch.setattr(cache_file, "CHUNK_BYTES", 4)
    content = b"0123456789"[: sum(sizes)]
    checksums, start = Checksums(), 0
    for size in sizes:
        checksums.add(memoryview(content)[start : start + size])
        start += size
    assert checksums.all() == tuple(zlib.crc32(content[at : at + 4]) for at in range(0, len(content), 4))


def test_every_single_flipped_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "CHUNK_BYTES", 16)
    content = np.arange(40, dtype=np.uint8)
    checksums = Checksums()
    checksums.add(content.data)
    path = tmp_path / "0.bin"
    for bit in range(content.size * 8):
        flipped = np.packbits(np.unpackbits(content) ^ (np.arange(content.size * 8) == bit))
        path.write_bytes(flipped.tobytes())
        file = RowFile(path)
        assert (file.problem(40, checksums.all(), lambda _: None) or "").endswith(
            f"(a wrong checksum from byte {bit // 8 // 16 * 16} on)"
        )
        file.close()


def test_the_end_of_a_file_is_a_short_count(tmp_path: Path) -> None:
    (tmp_path / "0.bin").write_bytes(b"0123456789")
    file = RowFile(tmp_path / "0.bin")
    target = bytearray(6)
    assert file.fill(memoryview(target), 7) == 3
    assert bytes(target) == b"789\0\0\0"
    assert file.fill(memoryview(target), 10) == 0
    file.close()
