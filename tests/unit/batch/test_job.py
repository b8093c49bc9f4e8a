from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import change_weights

import toolkit
from toolkit.batch.job import run_batch
from toolkit.batch.options import Options
from toolkit.errors import DataError, FileWriteError
from toolkit.progress import Bar
from toolkit.runtime import Predictor

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'batch' is not installed")

COLOURS = ("red", "green", "blue")
THREE = Options(part_rows=3, batch_size=2)
Rows = Callable[[Path], list[dict[str, Any]]]
Encoded = Callable[[str], bytes]


class Watching:
    """A reporter that stops the work after some images."""

    def __init__(self, images: int | None = None) -> None:
        self.lines: list[str] = []
        self.advanced = 0
        self._images = images

    def line(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Bar]:
        if unit == "img":
            self.total = total
        yield self

    def advance(self, steps: int = 1, **_: str) -> None:
        self.advanced += steps
        if self._images is not None and self.advanced > self._images:
            raise KeyboardInterrupt


def test_a_row_for_each_image_in_parts(predictor: Predictor, photos: Path, tmp_path: Path, rows_of: Rows) -> None:
    watching = Watching()
    outcome = run_batch(predictor, str(photos), tmp_path / "out", THREE, watching)
    assert (outcome.images, outcome.errors, outcome.parts, outcome.computed) == (10, 0, 4, 10)
    rows = rows_of(tmp_path / "out")
    assert {os.path.relpath(row["path"], photos): row["label"] for row in rows} == {
        os.path.join("more" if number % 2 else "", f"{number}.png"): COLOURS[number % 3] for number in range(10)
    }
    assert len(rows) == 10
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_SUCCESS",
        "_batch",
        *(f"part-00000{number}.parquet" for number in range(4)),
    ]
    assert (watching.total, watching.advanced - 1) == (10, 10)  # one for the listing
    assert watching.lines == [f"1 file in {photos} is no image by its name: .txt (1)"]


def test_the_numbers_are_those_of_predict(predictor: Predictor, photos: Path, tmp_path: Path, rows_of: Rows) -> None:
    run_batch(predictor, str(photos), tmp_path / "out", Options(part_rows=4, top=2, logits=True))
    for row in rows_of(tmp_path / "out"):
        (prediction,) = predictor.predict(row["path"])
        assert row["probability"] == prediction.probability
        assert np.array_equal(np.array(row["logits"], np.float32), prediction.logits)
        assert list(zip(row["top_labels"], row["top_probabilities"], strict=True)) == prediction.top(2)


def test_a_file_that_cannot_be_read_is_a_row_with_its_error(
    predictor: Predictor, photos: Path, tmp_path: Path, rows_of: Rows
) -> None:
    (photos / "4.png").write_bytes(b"\x89PNG damaged")
    (photos / "6.png").write_bytes(b"")
    (photos / "list.txt").write_text("0.png\n4.png\ngone.png\nmore\n6.png\n2.png\n0.png\n")
    outcome = run_batch(predictor, str(photos / "list.txt"), tmp_path / "out", THREE)
    rows = rows_of(tmp_path / "out")
    assert (outcome.images, outcome.errors) == (7, 4)
    assert [row["path"] for row in rows] == ["0.png", "4.png", "gone.png", "more", "6.png", "2.png", "0.png"]
    assert [row["label"] for row in rows] == ["red", None, None, None, None, "blue", "red"]
    assert [row["error"] is None for row in rows] == [row["label"] is not None for row in rows]
    assert "4.png cannot be read as an image" in rows[1]["error"]
    assert "there is no such file" in rows[2]["error"]
    assert "it is a folder" in rows[3]["error"]


def test_a_parquet_file_of_paths(predictor: Predictor, photos: Path, tmp_path: Path, rows_of: Rows) -> None:
    parquet.write_table(pyarrow.table({"file": ["0.png", None, "nul\0.png", ""]}), photos / "paths.parquet")
    run_batch(predictor, str(photos / "paths.parquet"), tmp_path / "out", THREE)
    rows = rows_of(tmp_path / "out")
    assert [(row["path"], row["label"]) for row in rows] == [
        ("0.png", "red"),
        (None, None),
        ("nul\0.png", None),
        (None, None),
    ]
    assert rows[1]["error"] == rows[3]["error"] == "there is no path in this row."
    assert "nul\\x00.png cannot be read as an image" in rows[2]["error"]


def test_a_parquet_file_of_images_with_keys(
    predictor: Predictor, tmp_path: Path, encoded: Encoded, rows_of: Rows
) -> None:
    images = [encoded("red"), None, encoded("green"), b"damaged", encoded("blue")]
    table = pyarrow.table({"id": [5, 4, 3, 2, None], "jpg": images})
    parquet.write_table(table, tmp_path / "it.parquet", row_group_size=2)
    outcome = run_batch(predictor, str(tmp_path / "it.parquet"), tmp_path / "out", THREE)
    rows = rows_of(tmp_path / "out")
    assert (outcome.images, outcome.errors, outcome.parts) == (5, 2, 2)
    assert [(row["key"], row["label"]) for row in rows] == [
        (5, "red"),
        (4, None),
        (3, "green"),
        (2, None),
        (None, "blue"),
    ]
    assert rows[1]["error"] == "there is no image in this row."
    assert "the image given as bytes cannot be read" in rows[3]["error"]


@pytest.mark.parametrize("images", range(10))
def test_an_interrupted_job_goes_on_after_what_is_there(
    predictor: Predictor, photos: Path, tmp_path: Path, rows_of: Rows, images: int
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_batch(predictor, str(photos), out, THREE, Watching(images))
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert len(kept) == max(images - 1, 0) // 3
    assert not (out / "_SUCCESS").exists()
    watching = Watching()
    outcome = run_batch(predictor, str(photos), out, THREE, watching)
    assert outcome.computed == 10 - 3 * len(kept) == watching.total
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert len({row["path"] for row in rows_of(out)}) == len(rows_of(out)) == 10


def test_a_part_that_is_taken_away_is_made_again(
    predictor: Predictor, photos: Path, tmp_path: Path, rows_of: Rows
) -> None:
    out = tmp_path / "out"
    run_batch(predictor, str(photos), out, THREE)
    whole = rows_of(out)
    for number in (0, 2):
        (out / f"part-00000{number}.parquet").unlink()
    watching = Watching()
    assert run_batch(predictor, str(photos), out, THREE, watching).computed == 6
    assert watching.lines[-1] == "2 of 4 parts are there already, with 4 images"
    assert rows_of(out) == whole


def test_a_job_that_is_done_computes_nothing(
    predictor: Predictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "0.png").write_bytes(b"")
    first = run_batch(predictor, str(photos), tmp_path / "out", THREE)
    monkeypatch.setattr(Predictor, "stream", None)
    again = run_batch(predictor, str(photos), tmp_path / "out", THREE)
    assert (again.images, again.errors, again.computed) == (first.images, first.errors, 0) == (10, 1, 0)


def test_another_job_in_the_same_folder_is_refused(
    predictor: Predictor, photos: Path, tmp_path: Path, encoded: Encoded, colour_bundle: Path
) -> None:
    out = tmp_path / "out"
    run_batch(predictor, str(photos), out, THREE)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def refused(said: str, predictor: Predictor = predictor, options: Options = THREE) -> None:
        with pytest.raises(FileWriteError, match=f"out holds predictions {said}.*: give another --out"):
            run_batch(predictor, str(photos), out, options)
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    refused(r"made with other options \(top 5, not 1\)", options=Options(part_rows=3, top=1))
    change_weights(colour_bundle, lambda weights: weights * 2)
    refused("of another model", predictor=toolkit.load(colour_bundle, threads=1))
    (photos / "new.png").write_bytes(encoded("red"))
    refused(r"of other images \(10 of .*photos as it was then; .*photos has 11 now\)")
    shutil.rmtree(photos / "more")
    refused("of other images")


def test_parts_inside_of_the_input_are_no_input(predictor: Predictor, photos: Path, rows_of: Rows) -> None:
    for computed in (10, 0):
        assert run_batch(predictor, str(photos), photos / "out", THREE).computed == computed
    assert len(rows_of(photos / "out")) == 10


def test_a_parquet_file_that_is_damaged_in_the_middle_keeps_what_is_whole(
    predictor: Predictor, tmp_path: Path, encoded: Encoded, rows_of: Rows
) -> None:
    file, out = tmp_path / "it.parquet", tmp_path / "out"
    table = pyarrow.table({"id": range(12), "png": [encoded("red")] * 11 + [os.urandom(20_000)]})
    parquet.write_table(table, file, row_group_size=6, compression="zstd", use_dictionary=False)
    content = bytearray(file.read_bytes())
    at = parquet.read_metadata(file).row_group(1).column(1).data_page_offset
    content[at : at + 2000] = bytes(2000)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"it\.parquet cannot be read as a Parquet file"):
        run_batch(predictor, str(file), out, Options(part_rows=2, batch_size=1))
    assert {row["key"] for row in rows_of(out)} <= set(range(6))
    assert not (out / "_SUCCESS").exists()


def test_an_input_without_images_leaves_no_job(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image files"):
        run_batch(predictor, str(tmp_path / "empty"), tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(
    predictor: Predictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr("toolkit.files.tempfile.mkstemp", full)
    monkeypatch.setattr(Predictor, "stream", None)
    with pytest.raises(FileWriteError, match=r"cannot write into .*out: No space left on device"):
        run_batch(predictor, str(photos), tmp_path / "out")
