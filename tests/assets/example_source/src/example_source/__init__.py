"""Labelled images listed in a JSON Lines file: on each line an object with ``path``, which starts at the file's folder,
and ``label``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from toolkit.data.dataset import Dataset, Split, fingerprint
from toolkit.data.splits import divide
from toolkit.errors import DataError


class JsonLinesSource:
    """Implements ``toolkit.data.base.Source``."""

    name = "jsonl"
    title = "a JSON Lines file of images"
    accepts = "the path of a .jsonl file of objects with path and label"
    reads_path = True
    downloads = False

    def recognises(self, source):
        return source.endswith(".jsonl")

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
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read as JSON Lines: {error}") from error
        if not rows or not all(isinstance(row, dict) and {"path", "label"} <= set(row) for row in rows):
            raise DataError(f"{file} needs a line for each image: an object with path and label.")
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
