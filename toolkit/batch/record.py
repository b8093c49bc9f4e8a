"""What a job was asked to do, kept beside its parts so that nothing else is written among them."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from toolkit.bundle.manifest import ArtifactRecord, Manifest
from toolkit.results import Record


class BatchRecord(Record):
    """A job: the same bundle, images and options make the same parts."""

    schema_version: Literal[1] = 1
    bundle: str
    """Its name."""
    model_sha256: str
    """Of everything that decides the numbers, see ``model_sha256``."""
    artifact: str
    """The format in use."""
    input: str
    """As it was given."""
    images: int
    """Inputs, and therefore rows."""
    input_sha256: str
    """Of the paths, or of the Parquet file that holds the images."""
    image_column: str
    key_column: str | None
    """None where paths say which image it is."""
    top: int
    """Classes a row lists."""
    logits: bool
    part_rows: int
    max_pixels: int

    @property
    def parts(self) -> int:
        """How many parts there will be."""
        return -(-self.images // self.part_rows)

    def bounds(self, part: int) -> tuple[int, int]:
        """Return the first input of a part, and the one after its last."""
        return part * self.part_rows, min((part + 1) * self.part_rows, self.images)

    @property
    def sha256(self) -> str:
        """Of the whole record; it stands in every part."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def difference(self, asked: BatchRecord) -> str | None:
        """Say what another job would do otherwise, as the end of "it holds predictions ..."; None if nothing."""
        if self.model_sha256 != asked.model_sha256:
            return f"of another model ({self.bundle}, {self.artifact})"
        if (self.images, self.input_sha256) != (asked.images, asked.input_sha256):
            return (
                f"of other images ({self.images} of {self.input} as it was then; {asked.input} has {asked.images} now)"
            )
        mine, theirs = self.model_dump(), asked.model_dump()
        options = ("image_column", "key_column", "top", "logits", "part_rows", "max_pixels")
        changed = [f"{name} {mine[name]}, not {theirs[name]}" for name in options if mine[name] != theirs[name]]
        return f"made with other options ({'; '.join(changed)})" if changed else None


def model_sha256(manifest: Manifest, artifact: ArtifactRecord) -> str:
    """Return a digest of what decides the numbers: the artifact's files, its input, the preprocessing, the labels.

    Verdicts and figures, which 'toolkit verify' and 'toolkit bench' write into the manifest, are not among it.
    """
    decides = {
        "files": {name: record.sha256 for name, record in sorted(artifact.all_files.items())},
        "input": manifest.input.model_dump(mode="json"),
        "preprocessing": manifest.preprocessing.model_dump(mode="json"),
        "labels": manifest.labels,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
