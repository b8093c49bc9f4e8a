from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.batch import tables
from toolkit.batch.tables import arrow, column_types, is_bytes, is_key, is_text, opened, read_rows
from toolkit.errors import DataError, MissingDependencyError

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'batch' is not installed")


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """Return a file of the numbers 0 to 99 and their squares, in row groups of 30."""
    table = pyarrow.table(
        {"n": range(100), "deep": [{"square": n * n, "text": str(n)} for n in range(100)], "a.b": range(100, 200)}
    )
    parquet.write_table(table, tmp_path / "numbers.parquet", row_group_size=30)
    return tmp_path / "numbers.parquet"


@pytest.mark.parametrize(("start", "stop"), [(0, 100), (0, 1), (29, 31), (30, 60), (45, 95), (99, 100), (7, 7)])
def test_a_range_of_rows(numbers: Path, start: int, stop: int) -> None:
    read = list(read_rows(numbers, ["n", "deep.square", "a.b"], start, stop, 7))
    assert read == [(n, n * n, 100 + n) for n in range(start, stop)]


def test_row_groups_outside_the_range_are_not_read(numbers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    before = parquet.ParquetFile.iter_batches

    def noted(self: Any, *given: Any, row_groups: list[int], **others: Any) -> Iterator[Any]:
        asked.append(row_groups)
        return before(self, *given, row_groups=row_groups, **others)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noted)
    assert list(read_rows(numbers, ["n"], 35, 65, 50)) == [(n,) for n in range(35, 65)]
    assert asked == [[1, 2]]


def test_a_null_struct_has_null_fields(tmp_path: Path) -> None:
    table = pyarrow.table({"image": [{"bytes": b"a"}, None, {"bytes": None}]})
    parquet.write_table(table, tmp_path / "it.parquet")
    assert list(read_rows(tmp_path / "it.parquet", ["image.bytes"], 0, 3, 2)) == [(b"a",), (None,), (None,)]


def test_the_types_of_columns_and_of_what_is_in_them() -> None:
    schema = pyarrow.schema(
        [
            ("id", pyarrow.int64()),
            ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.large_string())])),
            ("class", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
            ("score", pyarrow.float32()),
        ]
    )
    types = column_types(schema)
    assert list(types) == ["id", "image.bytes", "image.path", "class", "score"]
    assert [name for name in types if is_text(types[name])] == ["image.path", "class"]
    assert [name for name in types if is_bytes(types[name])] == ["image.bytes"]
    assert [name for name in types if is_key(types[name])] == ["id", "image.path", "class"]


def test_a_damaged_file_is_a_sentence(numbers: Path) -> None:
    content = numbers.read_bytes()
    numbers.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"numbers\.parquet cannot be read as a Parquet file \("), opened(numbers):
        pass


def test_damage_in_the_middle_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "it.parquet"
    parquet.write_table(pyarrow.table({"n": [str(n) * 50 for n in range(1000)]}), file, compression="zstd")
    content = bytearray(file.read_bytes())
    content[100:400] = bytes(300)
    file.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        list(read_rows(file, ["n"], 0, 1000, 100))


def test_without_pyarrow_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, said: str) -> Any:
        raise MissingDependencyError(f"{said}.")

    monkeypatch.setattr(tables, "import_optional", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vision-deploy-toolkit\[batch\]'"):
        arrow()
