"""Labelled images listed in a CSV file with the columns ``path`` and ``label``; paths start at the file's folder."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np

from toolkit.data.dataset import Dataset, Split, fingerprint
from toolkit.data.splits import divide
from toolkit.errors import DataError


class CsvSource:
    """Implements ``toolkit.data.base.Source``."""

    name = "csv"
    title = "a CSV file of images"
    accepts = "the path of a .csv file with the columns path and label"
    reads_path = True
    downloads = False

    def recognises(self, source):
        return source.endswith(".csv")

    def unavailable(self, recipe, *, network=True):
        file = Path(recipe.source).expanduser()
        return None if file.is_file() else f"{file} is missing"

    def load(self, recipe, seed, splits, reporter):
        file = Path(recipe.source).expanduser()
        rows = self._rows(file)
        labels = tuple(sorted({row["label"] for row in rows}))
        targets = np.array([labels.index(row["label"]) for row in rows], np.int64)
        parts = divide({"train": targets}, labels, recipe, seed)
        return Dataset(
            source=str(file.resolve()),
            labels=labels,
            splits={
                name: self._split(name, file.parent, [rows[index] for index in parts[name].indices], labels)
                for name in splits
            },
        )

    def _rows(self, file):
        try:
            with file.open(newline="", encoding="utf-8") as lines:
                rows = list(csv.DictReader(lines))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{file} cannot be read as CSV: {error}") from error
        if not rows or not {"path", "label"} <= set(rows[0]):
            raise DataError(f"{file} needs a header with the columns path and label, and a line for each image.")
        return rows

    def _split(self, name, folder, rows, labels):
        paths = [folder / row["path"] for row in rows]
        try:
            digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
        except OSError as error:
            raise DataError(f"an image of the {name} split cannot be read: {error}") from error
        return Split(
            name=name,
            sources=paths,
            targets=np.array([labels.index(row["label"]) for row in rows], np.int64),
            names=tuple(row["path"] for row in rows),
            fingerprint=fingerprint(digests, [row["label"] for row in rows]),
        )
