"""Parquet as ``batch`` reads and writes it: the one place that knows pyarrow, which is imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.errors import DataError, first_line
from toolkit.printable import printable

STREAM_BYTES = 2**20
"""A column of a row group is read in pieces of this size, not as a whole."""


def arrow(name: str = "pyarrow") -> Any:
    """Import pyarrow, or a module of it.

    Raises:
        MissingDependencyError: it is not installed, or broken.
    """
    return import_optional(
        name, f"batch reads and writes Parquet with pyarrow, which is not installed: {install_hint('batch')}"
    )


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """Open a Parquet file for reading, and map what pyarrow raises of it while the block reads.

    Raises:
        DataError: it is damaged, or no Parquet file.
    """
    pyarrow, parquet = arrow(), arrow("pyarrow.parquet")
    try:
        with parquet.ParquetFile(file, pre_buffer=False, buffer_size=STREAM_BYTES) as read:
            yield read
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{printable(file)} cannot be read as a Parquet file ({first_line(error)}): write it again."
        ) from error


def column_types(schema: Any) -> dict[str, Any]:
    """Return the type of every column; the fields of a struct stand as ``struct.field``."""
    pyarrow, found = arrow(), {}
    for field in schema:
        if pyarrow.types.is_struct(field.type):
            inner = column_types([field.type.field(at) for at in range(field.type.num_fields)])
            found.update({f"{field.name}.{name}": kind for name, kind in inner.items()})
        else:
            found[field.name] = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
    return found


def is_text(kind: Any) -> bool:
    """Tell whether a column of this type holds text."""
    types = arrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_bytes(kind: Any) -> bool:
    """Tell whether a column of this type holds bytes of any length."""
    types = arrow().types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_key(kind: Any) -> bool:
    """Tell whether a column of this type can say which image is meant: text or whole numbers."""
    return is_text(kind) or bool(arrow().types.is_integer(kind))


def read_rows(file: Path, columns: Sequence[str], start: int, stop: int, at_once: int) -> Iterator[tuple[Any, ...]]:
    """Yield the values of some columns, row by row, and hold ``at_once`` rows at a time.

    Args:
        file: a Parquet file.
        columns: as in ``column_types``.
        start: the first row; row groups before it are not read.
        stop: the row after the last.
        at_once: rows.

    Raises:
        DataError: the file is damaged.
    """
    with opened(file) as read:
        groups, first = _row_groups(read.metadata, start, stop)
        skipped, left = start - first, stop - start
        for batch in read.iter_batches(at_once, row_groups=groups, columns=list(columns)):
            rows = batch.slice(min(skipped, batch.num_rows), left)
            skipped = max(0, skipped - batch.num_rows)
            left -= rows.num_rows
            yield from zip(*(_values(rows, name) for name in columns), strict=True)
            if not left:
                return


def _row_groups(metadata: Any, start: int, stop: int) -> tuple[list[int], int]:
    """Return which row groups hold rows of a range, and the number of the first row in them."""
    found: list[int] = []
    first, begins = start, 0
    for group in range(metadata.num_row_groups):
        ends = begins + metadata.row_group(group).num_rows
        if begins < stop and ends > start:
            first = first if found else begins
            found.append(group)
        begins = ends
    return found, first


def _values(rows: Any, name: str) -> list[Any]:
    if name in rows.schema.names:
        values: list[Any] = rows.column(name).to_pylist()
        return values
    name, *inner = name.split(".")
    compute, column = arrow("pyarrow.compute"), rows.column(name)
    for field in inner:
        column = compute.struct_field(column, field)
    values = column.to_pylist()
    return values
