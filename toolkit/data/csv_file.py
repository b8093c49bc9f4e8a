"""A CSV file of paths and classes, with or without splits of its own."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.data.dataset import Dataset
from toolkit.data.folder import PooledFiles, load_pools
from toolkit.data.layout import SPLIT_WORDS, Pool, checked, split_of
from toolkit.errors import DataError
from toolkit.files import expanded
from toolkit.preprocess import IMAGE_SUFFIXES
from toolkit.printable import printable
from toolkit.progress import Reporter
from toolkit.recipe import DataRecipe

SUFFIXES = (".csv", ".tsv")
COLUMNS = {
    "path": ("path", "filepath", "filename", "file", "image", "img", "imagepath", "imgpath", "imagename", "imageid"),
    "class": ("label", "class", "category", "target", "classname", "labelname"),
    "split": ("split", "subset", "partition", "set", "usage"),
}
"""Names of columns by what they hold, in lower case and without blanks, ``_`` and ``-``."""

_DELIMITERS = (",", ";", "\t", "|")
_SHOWN = 5
_LONGEST_LABEL = 1000
_HEADER = "path,label"


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str | None


class CsvSource:
    """Implements ``toolkit.data.base.Source``."""

    name = "csv"
    title = "a CSV file of paths and classes"
    accepts = "the path of a .csv or .tsv file of paths and classes"
    reads_path = True
    downloads = False

    def recognises(self, source: str) -> bool:
        """See ``Source.recognises``: a path that ends like a table, unless it is a folder."""
        return source.lower().endswith(SUFFIXES) and not expanded(source).is_dir()

    def unavailable(self, recipe: DataRecipe, *, network: bool = True) -> str | None:
        """See ``Source.unavailable``."""
        return _no_file(expanded(recipe.source))

    def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter) -> Dataset:
        """See ``Source.load`` and ``toolkit.data.folder.load_pools``.

        Paths are relative to the folder of the file. The order of the rows decides nothing.

        Raises:
            DataError: the file is missing, cannot be read as a table of paths and classes, contradicts itself, names
                files that do not exist (and ``recipe.skip_unreadable`` is not set), or has not at least two classes of
                enough images, the same in each split.
            UnreadableImagesError: files cannot be decoded, and ``recipe.skip_unreadable`` is not set.
        """
        table = Path(os.path.abspath(expanded(recipe.source)))
        if (reason := _no_file(table)) is not None:
            raise DataError(f"{reason}: give a CSV file with a line {_HEADER!r}, or a folder of images.")
        lines: list[str] = []
        rows = _without_repetitions(table, list(_rows(table, lines)), lines)
        files = {row.path: _located(table.parent, row.path) for row in rows}
        if "train" in splits and not recipe.skip_unreadable:  # later stages read single splits, and say what is gone
            _require_files(table, rows, files)
        pools = checked(str(table), _pools(table, rows, files), lines)
        return load_pools(
            PooledFiles(table, _common_folder(table.parent, files), pools, tuple(lines)), recipe, seed, splits, reporter
        )


def _no_file(table: Path) -> str | None:
    return None if table.is_file() else f"{table} is {'not a file' if table.exists() else 'missing'}"


def _rows(table: Path, lines: list[str]) -> Iterator[_Row]:
    """Read the table: paths and labels without blanks around them.

    Raises:
        DataError: naming the line or the columns.
    """
    text = _text(table)
    delimiter, text = _announced_delimiter(text)
    cells = [(line, row) for line, row in _cells(table, text, delimiter or _delimiter(text)) if any(row)]
    if not cells:
        raise DataError(f"{table} is empty: it needs a line {_HEADER!r} and then one line for each image.")
    columns, width = _columns(table, cells[0][1]), len(cells[0][1])
    if columns is None:
        columns = _columns_without_header(table, cells)
    else:
        lines += _unused(table, cells[0][1], columns)
        del cells[0]
    if not cells:
        raise DataError(f"{table} has a header and no line below it: give one line for each image.")
    _require_width(table, cells, width)
    bad = [line for line, row in cells if len(row) <= max(columns.values()) or not row[columns["class"]]]
    bad += [line for line, row in cells if line not in bad and not row[columns["path"]]]
    if bad:
        raise DataError(f"{table} lacks a path or a class in {_lines(bad)}: fill it in, or remove the line.")
    for line, row in cells:
        label, path = row[columns["class"]], row[columns["path"]]
        if not (label.isprintable() and path.isprintable()):
            raise DataError(f"{table} has a character that cannot be printed in line {line}: remove it.")
        if len(label) > _LONGEST_LABEL:
            raise DataError(f"{table} has a class of {len(label):,} characters in line {line}: is it the class?")
        yield _Row(line, path, label, _split(table, line, row[columns["split"]]) if "split" in columns else None)


def _text(table: Path) -> str:
    try:
        content = table.read_bytes()
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}.") from error
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 (byte {error.start}): save it as CSV in UTF-8.") from error
    if "\0" in text:
        raise DataError(f"{table} holds null bytes: it is no text. Save it as CSV in UTF-8.")
    return text


def _announced_delimiter(text: str) -> tuple[str | None, str]:
    """Take off the line ``sep=;`` that Excel writes."""
    first, _, rest = text.partition("\n")
    announced = first.strip().removeprefix("sep=")
    return (announced, "\n" + rest) if first.startswith("sep=") and announced in _DELIMITERS else (None, text)


def _cells(table: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for row in reader:
            yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise DataError(f"{table} is no CSV file in line {reader.line_num}: {error}.") from error


def _delimiter(text: str) -> str:
    """Return what stands between the cells: what makes the first line a header, or what cuts it into most cells."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def score(delimiter: str) -> tuple[int, int]:
        names = [_plain(cell) for cell in next(csv.reader([first], delimiter=delimiter), [])]
        return sum(any(name in known for name in names) for known in COLUMNS.values()), len(names)

    return max(_DELIMITERS, key=score)


def _plain(cell: str) -> str:
    return "".join(cell.casefold().replace("_", "").replace("-", "").split())


def _columns(table: Path, header: Sequence[str]) -> dict[str, int] | None:
    """Return where path, class and split stand; None where the first line is no header.

    Raises:
        DataError: it is a header, and a column is missing or stands twice.
    """
    found = {
        what: [index for index, cell in enumerate(header) if _plain(cell) in names] for what, names in COLUMNS.items()
    }
    if not found["path"] and not found["class"]:
        return None
    for what, indices in found.items():
        if len(indices) > 1:
            names = " and ".join(repr(header[index]) for index in indices)
            raise DataError(f"the columns {names} of {table} could each be the {what}: rename all but one.")
    if not found["path"] or not found["class"]:
        lacking = "path" if not found["path"] else "class"
        raise DataError(
            f"{table} has no column for the {lacking} among {', '.join(map(repr, header))}: call it "
            f"{COLUMNS[lacking][0]!r}."
        )
    return {what: indices[0] for what, indices in found.items() if indices}


def _unused(table: Path, header: Sequence[str], columns: Mapping[str, int]) -> list[str]:
    """Say which named columns are not used, and what that means where they hold boxes."""
    names = [cell for index, cell in enumerate(header) if cell and index not in columns.values()]
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    line = f"columns of {table} that are not used: {', '.join(map(repr, names[:_SHOWN]))}{more}"
    if any(
        re.match(r"(x|y|left|top)(min|max|1|2)?$|bbox|box|roi|polygon|segmentation", _plain(name)) for name in names
    ):
        line += ". If they hold boxes or outlines: an image is classified as a whole, whatever else it shows"
    return [line]


def _columns_without_header(table: Path, cells: Sequence[tuple[int, Sequence[str]]]) -> dict[str, int]:
    """Tell the columns by their content: the path is an existing file, and what is left is the class.

    Raises:
        DataError: they cannot be told.
    """
    first = cells[0][1]
    paths = [index for index, cell in enumerate(first) if cell and os.path.isfile(_located(table.parent, cell))]
    others = [index for index in range(len(first)) if index not in paths]
    if len(paths) != 1 or len(others) not in (1, 2):
        raise DataError(
            f"the first line of {table} names no columns ({', '.join(map(repr, first[:_SHOWN]))}), nor one file that "
            f"exists and one class: call the columns 'path' and 'label', or write a line {_HEADER!r} above it."
        )
    splits = [index for index in others if all(len(row) > index and split_of(row[index]) for _, row in cells)]
    if len(others) - len(splits) != 1:
        raise DataError(f"it is not clear which column of {table} holds the class: write a line {_HEADER!r} above it.")
    label = next(index for index in others if index not in splits)
    return {"path": paths[0], "class": label, **({"split": splits[0]} if splits else {})}


def _require_width(table: Path, cells: Sequence[tuple[int, Sequence[str]]], width: int) -> None:
    wide = [line for line, row in cells if any(row[width:])]
    if wide:
        raise DataError(
            f"{table} has more cells in {_lines(wide)} than in its first line: put cells that hold the delimiter into "
            "quotes."
        )


def _split(table: Path, line: int, cell: str) -> str:
    split = split_of(cell)
    if split is None:
        words = ", ".join(known[0] for known in SPLIT_WORDS.values())
        raise DataError(f"{table} has the split {cell!r} in line {line}: give one of {words}.")
    return split


def _located(folder: Path, path: str) -> Path:
    """Return the file that a row means; backslashes are folders where no file is called so."""
    located = os.path.normpath(folder / expanded(path))
    if "\\" in path and not os.path.exists(located):
        located = os.path.normpath(folder / path.replace("\\", "/"))
    return Path(located)


def _without_repetitions(table: Path, rows: Sequence[_Row], lines: list[str]) -> list[_Row]:
    """Return one row for each file.

    Raises:
        DataError: a file has two classes or stands in two splits.
    """
    first: dict[Path, _Row] = {}
    repeated = 0
    for row in rows:
        other = first.setdefault(_located(table.parent, row.path), row)
        if (other.label, other.split) != (row.label, row.split):
            what = "two classes" if other.label != row.label else "two splits"
            values = (other.label, row.label) if other.label != row.label else (other.split, row.split)
            raise DataError(
                f"{row.path} has {what} in {table}: {values[0]!r} in line {other.line} and {values[1]!r} in line "
                f"{row.line}. Keep one of them."
            )
        repeated += other is not row
    if repeated:
        lines.append(f"{repeated} lines of {table} repeat another one and are left out")
    return list(first.values())


def _require_files(table: Path, rows: Sequence[_Row], files: dict[str, Path]) -> None:
    missing = [row for row in rows if not os.path.isfile(files[row.path])]
    if missing:
        shown = "".join(f"\n  line {row.line}: {printable(files[row.path])}" for row in missing[:_SHOWN])
        more = f"\n  and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{len(missing)} of {len(rows)} files that {table} names are not there:{shown}{more}\n"
            f"{_hint(files[missing[0].path], missing[0].path)}Put the files there, or leave them out with "
            "--skip-unreadable."
        )


def _hint(missing: Path, written: str) -> str:
    whole = next((name for name in (f"{missing}{suffix}" for suffix in IMAGE_SUFFIXES) if os.path.isfile(name)), None)
    if whole is not None:
        return f"There is {printable(whole)}: write paths with their suffixes. "
    if (spelt := _in_other_case(missing)) is not None:
        return f"There is {printable(spelt)}: here upper and lower case differ. "
    if re.match(r"/|~|[A-Za-z]:[\\/]", written):
        return (
            "They are absolute paths, perhaps of another computer: write them relative to the folder of the CSV file. "
        )
    return "Paths are relative to the folder of the CSV file. "


def _in_other_case(missing: Path) -> Path | None:
    """Return the file in the same folder whose name differs in case alone."""
    with contextlib.suppress(OSError):
        for entry in missing.parent.iterdir():
            if entry.name.casefold() == missing.name.casefold() and entry.is_file():
                return entry
    return None


def _pools(table: Path, rows: Sequence[_Row], files: dict[str, Path]) -> dict[str, Pool]:
    """Return the files of each split by class, both sorted by the code points of their names."""
    pools: dict[str, Pool] = {}
    splits = {row.split or "train" for row in rows}
    if "train" not in splits:
        raise DataError(f"{table} has no line of the split 'train': its splits are {', '.join(sorted(splits))}.")
    for split in SPLIT_WORDS:
        classes: dict[str, list[Path]] = {}
        for row in sorted(rows, key=lambda row: (row.label, str(files[row.path]))):
            if (row.split or "train") == split:
                classes.setdefault(row.label, []).append(files[row.path])
        if classes:
            where = str(table) if len(splits) == 1 else f"the split {split!r} of {table}"
            pools[split] = Pool(where, f"split {split!r}", classes)
    return pools


def _common_folder(folder: Path, files: dict[str, Path]) -> Path:
    """Return the folder that all files lie in, so that their names tell nothing of this machine."""
    inside = all(path.is_relative_to(folder) for path in files.values())
    return folder if inside else Path(os.path.commonpath([path.parent for path in files.values()]))


def _lines(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in sorted(numbers)[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
