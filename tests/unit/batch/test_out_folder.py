from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from batch_record import RECORD

from toolkit.batch.out_folder import DONE, PART_KEY, OutFolder
from toolkit.errors import FileWriteError

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'batch' is not installed")


def part(folder: OutFolder, number: int, rows: int, job: str = RECORD.sha256, errors: int = 0) -> None:
    said = json.dumps({"job": job, "errors": errors})
    table = pyarrow.table({"n": range(rows)}).replace_schema_metadata({PART_KEY: said.encode()})
    parquet.write_table(table, folder.part(number))


def test_a_new_folder_is_made_and_an_empty_one_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new" / "deep", tmp_path / "empty"):
        with OutFolder(path).held():
            assert OutFolder(path).record() is None


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with (
        pytest.raises(FileWriteError, match=r"holds something else \(thesis\.tex\): give a folder"),
        OutFolder(tmp_path).held(),
    ):
        pass
    with pytest.raises(FileWriteError, match=r"thesis\.tex is no folder"), OutFolder(tmp_path / "thesis.tex").held():
        pass


def test_one_that_was_begun_is_taken_whatever_lies_in_it(tmp_path: Path) -> None:
    folder = OutFolder(tmp_path)
    RECORD.save(folder.record_file)
    (tmp_path / "notes.md").touch()
    with folder.held():
        assert folder.record() == RECORD


def test_one_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = OutFolder(tmp_path)
    folder.record_file.parent.mkdir()
    folder.record_file.write_text('{"schema_version": 99}')
    with pytest.raises(FileWriteError, match=r"record\.json is not what 'toolkit batch' of this version writes"):
        folder.record()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no locks of folders")
def test_two_cannot_write_into_one_folder(tmp_path: Path) -> None:
    second = pytest.raises(FileWriteError, match="another process is writing predictions into")
    with OutFolder(tmp_path).held(), second, OutFolder(tmp_path).held():
        pass
    with OutFolder(tmp_path).held():
        pass


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    folder = OutFolder(tmp_path)
    RECORD.save(folder.record_file)
    left = [tmp_path / ".part-000001.1234abcd.part.parquet", tmp_path / "_batch" / ".inputs.1234abcd.part.parquet"]
    for path in left:
        path.touch()
    with folder.held():
        assert not any(path.exists() for path in left)
        assert folder.record() == RECORD


def test_parts_that_are_there_with_their_errors(tmp_path: Path) -> None:
    folder = OutFolder(tmp_path)
    part(folder, 0, 4, errors=3)
    part(folder, 2, 2)
    assert folder.done(RECORD) == {0: 3, 2: 0}
    folder.finish()
    assert (tmp_path / DONE).read_bytes() == b""


@pytest.mark.parametrize("fault", ["rows", "job", "cut", "foreign"])
def test_a_file_that_is_called_like_a_part_and_is_none(tmp_path: Path, fault: str) -> None:
    folder = OutFolder(tmp_path)
    part(folder, 1, 3 if fault == "rows" else 4, "c" * 64 if fault == "job" else RECORD.sha256)
    if fault == "cut":
        folder.part(1).write_bytes(folder.part(1).read_bytes()[:-20])
    if fault == "foreign":
        parquet.write_table(pyarrow.table({"n": range(4)}), folder.part(1))
    with pytest.raises(FileWriteError, match=r"part-000001\.parquet is not what this job wrote there: move it away"):
        folder.done(RECORD)
