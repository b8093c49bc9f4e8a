from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.batch.inputs import LISTED, Fingerprint, Held, Listed, Row, Source, find_input
from toolkit.errors import DataError

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'batch' is not installed")


def listed(given: object, out: Path | None = None, **columns: str) -> Listed:
    found = find_input(str(given), out or Path("out"), **columns)
    assert isinstance(found, Listed)
    return found


def names(found: Listed) -> list[str]:
    return [os.path.basename(os.fsdecode(path or b"")) for path in found.paths()]


def test_a_folder_is_searched_for_images(photos: Path) -> None:
    found = listed(photos)
    assert names(found) == [f"{n}.png" for n in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]
    assert found.said(str(photos)) == f"1 file in {photos} is no image by its name: .txt (1)"
    assert next(found.paths()) == os.fsencode(photos / "0.png")
    assert found.base is None


def test_parts_that_lie_in_the_input_are_none_of_it(photos: Path) -> None:
    out = photos / "out"
    (out / "_batch").mkdir(parents=True)
    (out / "part-000000.parquet").write_bytes(b"")
    (out / "_batch" / "record.json").write_bytes(b"")
    found = listed(photos, out)
    assert len(names(found)) == 10
    assert found.said("photos") == "1 file in photos is no image by its name: .txt (1)"


def test_a_glob_takes_the_files_that_it_matches(photos: Path) -> None:
    assert sorted(names(listed(photos / "*.png"))) == [f"{n}.png" for n in (0, 2, 4, 6, 8)]
    assert sorted(names(listed(photos / "**" / "[12].*"))) == ["1.png", "2.png"]
    assert len(names(listed(photos / "**"))) == 11  # folders are none, notes.txt is asked for


def test_a_list_has_a_path_a_line(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes("\ufeffa.png\r\n\r\n".encode() + b"more/caf\xe9 b.png \n/c.png")
    found = listed(file)
    assert list(found.paths()) == [b"a.png", b"more/caf\xe9 b.png ", b"/c.png"]
    assert found.base == tmp_path


def test_a_parquet_file_of_paths(tmp_path: Path) -> None:
    table = pyarrow.table({"file": ["a.png", None, "ä.png"], "label": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "paths.parquet")
    found = listed(tmp_path / "paths.parquet")
    assert list(found.paths()) == [b"a.png", None, "ä.png".encode()]
    assert found.base == tmp_path


def test_a_parquet_file_of_images(tmp_path: Path) -> None:
    file = tmp_path / "images.parquet"
    parquet.write_table(pyarrow.table({"id": [7, 8, 9], "jpeg": [b"1", None, b""]}), file)
    found = find_input(str(file), tmp_path)
    assert isinstance(found, Held)
    assert (found.count, found.key_type, found.source) == (3, pyarrow.int64(), Source(file, "jpeg", "id", None))
    assert list(found.source.rows(0, 3)) == [
        Row(7, b"1"),
        Row(8, b"", "there is no image in this row."),
        Row(9, b"", "there is no image in this row."),
    ]
    again = find_input(str(file), tmp_path)
    assert isinstance(again, Held)
    assert again.sha256 == found.sha256
    parquet.write_table(pyarrow.table({"id": [7, 8, 9], "jpeg": [b"12", None, b""]}), file)
    other = find_input(str(file), tmp_path)
    assert isinstance(other, Held)
    assert other.sha256 != found.sha256


def test_images_in_a_struct_as_datasets_have_them(tmp_path: Path) -> None:
    file = tmp_path / "hub.parquet"
    parquet.write_table(pyarrow.table({"image": [{"bytes": b"1", "path": "a.png"}], "label": [3]}), file)
    with pytest.raises(
        DataError, match=r"several columns that could be meant, image\.path, label: name one with --key"
    ):
        find_input(str(file), tmp_path)
    found = find_input(str(file), tmp_path, key="image.path")
    assert isinstance(found, Held)
    assert list(found.source.rows(0, 1)) == [Row("a.png", b"1")]


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        ({"n": [1]}, {}, "has neither a column of bytes nor one of text: it has n"),
        ({"a": ["x"], "b": ["y"]}, {}, "has several columns that could be meant, a, b: name one with --column"),
        ({"a": ["x"]}, {"column": "b"}, "--column 'b' is no column of .*: it has a"),
        ({"a": ["x"]}, {"key": "b"}, "--key 'b' is no column of"),
        ({"a": ["x"], "n": [1]}, {"key": "n"}, "holds paths, which say themselves which image it is: leave --key out"),
        ({"a": ["x"], "n": [1]}, {"column": "n"}, "the column n of .* holds int64: give one of paths"),
        ({"a": [b"x"]}, {}, "needs a column of text or whole numbers that says which image is which"),
        ({"a": [b"x"], "x": [1.5]}, {"key": "x"}, "needs a column of text or whole numbers"),
        ({"a": pyarrow.array([], pyarrow.string())}, {}, "has no rows"),
    ],
)
def test_a_parquet_file_that_is_no_input(
    tmp_path: Path, table: dict[str, object], columns: dict[str, str], said: str
) -> None:
    parquet.write_table(pyarrow.table(table), tmp_path / "it.parquet")
    with pytest.raises(DataError, match=said):
        find_input(str(tmp_path / "it.parquet"), tmp_path, **columns)


def test_what_is_no_input(tmp_path: Path, encoded: Callable[[str], bytes]) -> None:
    (tmp_path / "one.png").write_bytes(encoded("red"))
    (tmp_path / "archive.zip").write_bytes(b"PK\0\0")
    (tmp_path / "pointer").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "list.txt").write_text("a.png\n")
    os.mkfifo(tmp_path / "pipe")
    for given, said in {
        "gone": "there is no .*gone: give a folder of images, a glob in quotes",
        "one.png": "one.png is one image: 'toolkit predict' takes it",
        "archive.zip": "archive.zip is neither a Parquet file nor a list of paths: it holds bytes that are no text",
        "pointer": "neither a Parquet file nor a list of paths: it is the pointer of Git LFS",
        "pipe": "pipe cannot be read .it is a pipe.",
    }.items():
        with pytest.raises(DataError, match=said):
            find_input(str(tmp_path / given), tmp_path)
    with pytest.raises(DataError, match="--column and --key name columns of a Parquet file"):
        find_input(str(tmp_path / "list.txt"), tmp_path, column="a")


@pytest.mark.parametrize(
    ("given", "said"),
    [("empty", "holds no image files"), ("*.gif", "matches no file"), ("blank.txt", "lists no path")],
)
def test_an_input_that_names_nothing(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n\n")
    found = listed(tmp_path / given)
    with pytest.raises(DataError, match=said):
        found.fingerprint()
    with pytest.raises(DataError, match=said):
        found.write(tmp_path / "listing.parquet", 3)


def test_a_listing_is_written_in_row_groups_and_read_in_parts(tmp_path: Path, photos: Path) -> None:
    found = listed(photos)
    written = found.write(tmp_path / "listing.parquet", 4)
    assert (written.count, written.sha256) == (10, found.fingerprint().sha256)
    metadata = parquet.read_metadata(tmp_path / "listing.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [4, 4, 2]
    source = Source(tmp_path / "listing.parquet", LISTED, None, None)
    rows = list(source.rows(3, 7))
    assert [row.key for row in rows] == [os.fsdecode(path or b"") for path in list(found.paths())[3:7]]
    assert all(row.key == row.image for row in rows)


def test_paths_are_relative_to_the_list_and_stay_as_they_were_given(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png\n/b.png\ncaf\xe9.png\n")
    found = listed(tmp_path / "list.txt")
    found.write(tmp_path / "listing.parquet", 10)
    rows = list(Source(tmp_path / "listing.parquet", LISTED, None, found.base).rows(0, 3))
    assert rows[:2] == [Row("a.png", str(tmp_path / "a.png")), Row("/b.png", "/b.png")]
    assert rows[2].key == r"caf\xe9.png"
    assert os.fsencode(rows[2].image) == os.fsencode(tmp_path) + b"/caf\xe9.png"


def test_the_fingerprint_knows_no_order_and_counts_doubles() -> None:
    def of(*paths: bytes | None) -> tuple[int, str]:
        found = Fingerprint()
        for path in paths:
            found.add(path)
        return found.count, found.sha256

    assert of(b"a", b"b", None) == of(None, b"b", b"a")
    assert len({of(b"a"), of(b"b"), of(b"a", b"a"), of(None), of(b"a", None), of(b"")}) == 6
