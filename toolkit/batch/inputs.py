"""What images there are: a folder, a glob, a list of paths, or a Parquet file of paths or of image files.

Whatever lists paths is written down once, as a Parquet file of one column, so that a job goes on with the images that
it began with. All images are then rows of a Parquet file, read part by part; none of the lists is held in memory.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from toolkit.batch.tables import arrow, column_types, is_bytes, is_key, is_text, opened, read_rows
from toolkit.errors import DataError
from toolkit.files import atomic_path, expanded, open_regular, stands_for_another
from toolkit.preprocess import image_by_name, not_images, walk_folder
from toolkit.printable import printable

LISTED = "path"
"""The one column of a listing: bytes of paths, because not every path is UTF-8."""
_HEAD_BYTES = 4096
_PATHS_AT_ONCE = 1024
_IMAGES_AT_ONCE = 16
_NO_PATH, _NO_IMAGE = "there is no path in this row.", "there is no image in this row."


@dataclass(frozen=True)
class Row:
    """One input."""

    key: Any
    """The path as it was given, or the value of the key's column."""
    image: str | bytes
    """What is read: a path or an image file; empty where ``fault`` says that there is none."""
    fault: str | None = None


@dataclass(frozen=True)
class Source:
    """Images as rows of a Parquet file; other processes can read them too."""

    file: Path
    image: str
    """The column of paths or of image files."""
    key: str | None
    """The column that says which image it is; None where the paths do."""
    base: Path | None
    """What paths are relative to; None where they are not, or to the current folder."""

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """Yield a range of the images.

        Raises:
            DataError: the Parquet file is damaged.
        """
        if self.key is None:
            for (path,) in read_rows(self.file, [self.image], start, stop, _PATHS_AT_ONCE):
                yield self._by_path(path)
        else:
            for key, image in read_rows(self.file, [self.key, self.image], start, stop, _IMAGES_AT_ONCE):
                yield Row(key, image or b"", None if image else _NO_IMAGE)

    def _by_path(self, path: bytes | None) -> Row:
        if not path:
            return Row(None, b"", _NO_PATH)
        name = os.fsdecode(path)
        # Text in Parquet is UTF-8: other bytes stand as \xNN there.
        return Row(path.decode("utf-8", "backslashreplace"), name if self.base is None else str(self.base / name))


class Fingerprint:
    """Which paths were listed, in whatever order: the sum of their SHA-256."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, path: bytes | None) -> None:
        """Count one more."""
        self.count += 1
        digest = hashlib.sha256(b"\0" if path is None else path).digest()
        self._sum = (self._sum + int.from_bytes(digest)) % 2**256

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits."""
        return f"{self._sum:064x}"


@dataclass(frozen=True)
class Listed:
    """An input that names files."""

    base: Path | None
    paths: Callable[[], Iterator[bytes | None]]
    nothing: str
    """What to say where it names none."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Suffixes of the files of a folder that are no images."""

    def write(self, target: Path, group_rows: int) -> Fingerprint:
        """Write the listing, in row groups of the size of a part.

        Raises:
            DataError: it names no file.
            FileWriteError: the listing cannot be written.
        """
        pyarrow, parquet = arrow(), arrow("pyarrow.parquet")
        schema = pyarrow.schema([(LISTED, pyarrow.binary())])
        found, paths = Fingerprint(), self.paths()
        with (
            atomic_path(target) as temporary,
            temporary.open("wb") as stream,
            parquet.ParquetWriter(stream, schema, compression="zstd") as writer,
        ):
            while chunk := list(islice(paths, group_rows)):
                for path in chunk:
                    found.add(path)
                listing = pyarrow.table({LISTED: pyarrow.array(chunk, pyarrow.binary())})
                writer.write_table(listing, row_group_size=group_rows)
            return self._some(found)

    def fingerprint(self) -> Fingerprint:
        """Go through the listing and write nothing.

        Raises:
            DataError: it names no file.
        """
        found = Fingerprint()
        for path in self.paths():
            found.add(path)
        return self._some(found)

    def said(self, given: str) -> str | None:
        """Say which files of a folder are left out; None if there are none."""
        return not_images(printable(given), self.left_out.elements())

    def _some(self, found: Fingerprint) -> Fingerprint:
        if not found.count:
            raise DataError(self.nothing)
        return found


@dataclass(frozen=True)
class Held:
    """An input that holds the images: a Parquet file of image files."""

    source: Source
    key_type: Any
    count: int
    sha256: str
    """Of the footer, which says what is where, and of the length of the file: terabytes are not read for this."""


def find_input(given: str, out: Path, column: str | None = None, key: str | None = None) -> Listed | Held:
    """Find out what was given.

    Args:
        given: a folder, a glob, a text file of paths, or a Parquet file.
        out: the folder of the parts, which is no input even if it lies in one.
        column: of a Parquet file, the column of paths or of image files; by default the only one there is.
        key: of a Parquet file of image files, the column that says which is which; by default the only one there is.

    Raises:
        DataError: there is no such input, it is of another kind, or its columns cannot be told.
    """
    path = expanded(given)
    if path.is_dir():
        return _plain(_folder(given, path, out), column, key)
    if not os.path.lexists(path):
        if not glob.has_magic(given):
            raise DataError(
                f"there is no {printable(given)}: give a folder of images, a glob in quotes, a text file with one path "
                "a line, or a Parquet file."
            )
        return _plain(_glob(given, str(path)), column, key)
    if image_by_name(path.name):
        raise DataError(f"{printable(given)} is one image: 'toolkit predict' takes it, batch takes a folder or a list.")
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{printable(given)} cannot be read ({error.strerror}): give another input.") from error
    if head.startswith(b"PAR1"):
        return _parquet(given, path, column, key)
    if reason := stands_for_another(head) or ("it holds bytes that are no text" if b"\0" in head else None):
        raise DataError(f"{printable(given)} is neither a Parquet file nor a list of paths: {reason}.")
    return _plain(_list(given, path), column, key)


def _plain(listed: Listed, column: str | None, key: str | None) -> Listed:
    if column is not None or key is not None:
        raise DataError("--column and --key name columns of a Parquet file, and the input is none: leave them out.")
    return listed


def _folder(given: str, folder: Path, out: Path) -> Listed:
    left_out: Counter[str] = Counter()

    def paths() -> Iterator[bytes]:
        left_out.clear()
        parts = out.resolve()
        for path, image in walk_folder(folder):
            if image:
                yield os.fsencode(path)
            elif parts not in path.resolve().parents:
                left_out[f"a{path.suffix}"] += 1

    nothing = f"the folder {printable(given)} holds no image files: give a folder with images."
    return Listed(None, paths, nothing, left_out)


def _glob(given: str, pattern: str) -> Listed:
    def paths() -> Iterator[bytes]:
        return (os.fsencode(path) for path in glob.iglob(pattern, recursive=True) if not os.path.isdir(path))

    return Listed(None, paths, f"{printable(given)} matches no file: give a glob that matches some, in quotes.")


def _list(given: str, file: Path) -> Listed:
    def paths() -> Iterator[bytes]:
        with open_regular(file) as lines:
            for number, line in enumerate(lines):
                # An editor of Windows may have begun the file with a mark, and ends lines with two characters.
                path = (line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).rstrip(b"\r\n")
                if path:
                    yield path

    return Listed(file.absolute().parent, paths, f"{printable(given)} lists no path: give one path a line.")


def _parquet(given: str, file: Path, column: str | None, key: str | None) -> Listed | Held:
    shown = printable(given)
    with opened(file) as read:
        types, count = column_types(read.schema_arrow), read.metadata.num_rows
    for option, name in (("--column", column), ("--key", key)):
        if name is not None and name not in types:
            raise DataError(f"{option} {name!r} is no column of {shown}: it has {', '.join(types)}.")
    image = column or _only(shown, "--column", types, is_bytes) or _only(shown, "--column", types, is_text)
    if image is None:
        raise DataError(f"{shown} has neither a column of bytes nor one of text: it has {', '.join(types)}.")
    if not count:
        raise DataError(f"{shown} has no rows: give a file that holds some.")
    if is_text(types[image]):
        if key is not None:
            raise DataError(
                f"the column {image} of {shown} holds paths, which say themselves which image it is: leave --key out."
            )
        return _paths_in(file, image, count)
    if not is_bytes(types[image]):
        raise DataError(
            f"the column {image} of {shown} holds {types[image]}: give one of paths (text) or image files (bytes)."
        )
    key = key or _only(shown, "--key", {name: kind for name, kind in types.items() if name != image}, is_key)
    if key is None or not is_key(types[key]):
        raise DataError(
            f"{shown} needs a column of text or whole numbers that says which image is which: name one with --key."
        )
    return Held(Source(file, image, key, None), types[key], count, _footer_sha256(file))


def _only(shown: str, option: str, types: dict[str, Any], fits: Callable[[Any], bool]) -> str | None:
    """Return the only column that fits, None if there is none."""
    names = [name for name, kind in types.items() if fits(kind)]
    if len(names) > 1:
        raise DataError(f"{shown} has several columns that could be meant, {', '.join(names)}: name one with {option}.")
    return names[0] if names else None


def _paths_in(file: Path, column: str, count: int) -> Listed:
    def paths() -> Iterator[bytes | None]:
        for (path,) in read_rows(file, [column], 0, count, _PATHS_AT_ONCE):
            yield None if path is None else os.fsencode(path)

    return Listed(file.absolute().parent, paths, "")


def _footer_sha256(file: Path) -> str:
    """Return the digest of the footer (https://parquet.apache.org/docs/file-format/) and of the file's length."""
    with open_regular(file) as read:
        length = read.seek(0, os.SEEK_END)
        read.seek(length - 8)
        footer = int.from_bytes(read.read(4), "little")
        read.seek(length - 8 - footer)
        return hashlib.sha256(length.to_bytes(8) + read.read(footer)).hexdigest()
