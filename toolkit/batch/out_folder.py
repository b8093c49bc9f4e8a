"""The folder that a job writes into: parts, which each appear whole, and beside them what the job is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from toolkit.batch.record import BatchRecord
from toolkit.batch.tables import arrow
from toolkit.errors import FileWriteError
from toolkit.files import only_writer, read_regular, require_writable, write_bytes
from toolkit.printable import printable

DONE = "_SUCCESS"
"""An empty file, there once all parts are; other tools that write Parquet in parts leave the same one."""
RECORDS = "_batch"
"""Readers of a folder of Parquet files leave out what begins with an underscore."""
PART_KEY = b"toolkit.batch"
"""Of the metadata of a part: the job that it belongs to, how many of its rows are errors, the labels."""


class OutFolder:
    """Where parts are written. ``held`` keeps other processes out; nothing is written without it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_file = path / RECORDS / "record.json"
        self.listing = path / RECORDS / "inputs.parquet"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and be the only one who writes into it, for the length of the block.

        Raises:
            FileWriteError: it cannot be written, holds something else, or another process writes into it.
        """
        require_writable(self.path)
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(parents=True)
        with only_writer(self.path) as alone:
            if not alone:
                raise FileWriteError(
                    f"another process is writing predictions into {printable(self.path)}: wait until it is done, or "
                    "give another --out."
                )
            self._require_ours()
            for folder in (self.path, self.path / RECORDS):
                for left in folder.glob(".*.part*"):  # by a process that was killed while it wrote
                    left.unlink()
            yield

    def record(self) -> BatchRecord | None:
        """Return what the folder says of its job; None before one was begun.

        Raises:
            FileWriteError: it is no such record.
        """
        try:
            return BatchRecord.from_json(read_regular(self.record_file))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise FileWriteError(
                f"{printable(self.record_file)} is not what 'toolkit batch' of this version writes: give another --out."
            ) from error

    def part(self, number: int) -> Path:
        """Return where a part belongs."""
        return self.path / f"part-{number:06d}.parquet"

    def write_part(self, number: int, content: bytes) -> None:
        """Write a part so that it appears whole."""
        write_bytes(self.part(number), content)

    def done(self, record: BatchRecord) -> dict[int, int]:
        """Return the parts that are there, each with how many of its rows are errors.

        Raises:
            FileWriteError: a file that is called like a part is none of this job.
        """
        found = {}
        for number in range(record.parts):
            if (errors := self.errors_in(number, record)) is not None:
                found[number] = errors
        return found

    def errors_in(self, number: int, record: BatchRecord) -> int | None:
        """Return how many rows of a part are errors; None if it is not there.

        Raises:
            FileWriteError: a file of that name is none of this job.
        """
        path = self.part(number)
        if not path.exists():
            return None
        pyarrow, parquet = arrow(), arrow("pyarrow.parquet")
        start, stop = record.bounds(number)
        try:
            metadata = parquet.read_metadata(path)
            said = json.loads(metadata.metadata[PART_KEY])
            if (metadata.num_rows, said["job"]) == (stop - start, record.sha256):
                return int(said["errors"])
        except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError):
            pass
        raise FileWriteError(
            f"{printable(path)} is not what this job wrote there: move it away, and the part is made again."
        )

    def finish(self) -> None:
        """Say that all parts are there."""
        write_bytes(self.path / DONE, b"")

    def _require_ours(self) -> None:
        if self.record() is not None:
            return
        other = next((path.name for path in sorted(self.path.iterdir()) if path.name != RECORDS), None)
        if other is not None:
            raise FileWriteError(
                f"{printable(self.path)} holds something else ({printable(other)}): give a folder for --out that is "
                "new, empty, or was begun by 'toolkit batch'."
            )
