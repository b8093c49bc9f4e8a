"""The prepared test images as files that every worker maps into its memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from toolkit.errors import FileWriteError
from toolkit.preprocess import Preprocessing
from toolkit.progress import Reporter

CHUNK_BYTES = 64 * 2**20
"""How much of the images is in memory at once while the file is written."""


class Split(Protocol):
    """What is needed of one split of a dataset."""

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Class of each image, ``[n]``."""

    def __len__(self) -> int:
        """Return the number of images."""

    def load(self, indices: npt.NDArray[np.int64], preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
        """Return prepared images, uint8 ``[n, H, W, 3]``."""


@dataclass(frozen=True)
class Inputs:
    """Where the images are."""

    folder: Path
    """A temporary folder; workers' logs go there too."""
    images: Path
    """``.npy``, uint8 ``[count, H, W, 3]``."""
    targets: Path
    """``.npy``, int64 ``[count]``."""
    count: int
    fingerprint: str = ""
    """SHA-256 of shape and content of the images, then of the classes."""


@contextmanager
def prepared_inputs(
    split: Split, preprocessing: Preprocessing, limit: int | None, seed: int, reporter: Reporter
) -> Iterator[Inputs]:
    """Write test images to a temporary folder, in pieces of bounded size.

    The folder goes when the block ends, well or not.

    Args:
        split: the test split.
        preprocessing: what becomes of each image.
        limit: how many images, drawn at random; None for all.
        seed: of the drawing.
        reporter: where progress goes.

    Raises:
        FileWriteError: the temporary folder is full or cannot be written.
    """
    indices = np.arange(len(split), dtype=np.int64)
    if limit is not None and limit < len(indices):
        indices = np.sort(np.random.default_rng(seed).choice(indices, size=limit, replace=False))
    with tempfile.TemporaryDirectory(prefix="toolkit-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        images, targets = folder / "images.npy", folder / "targets.npy"
        chosen = np.asarray(split.targets, np.int64)[indices]
        try:
            digest = _write_images(images, split, indices, preprocessing, reporter)
            np.save(targets, chosen)
        except OSError as error:
            raise FileWriteError(
                f"cannot write the prepared test images to {folder}: {error.strerror or error}. "
                "Point TMPDIR at a disk with more space, or measure accuracy on fewer images."
            ) from error
        digest.update(chosen.astype("<i8").tobytes())
        yield Inputs(folder, images, targets, len(indices), digest.hexdigest())


def _write_images(
    path: Path, split: Split, indices: npt.NDArray[np.int64], preprocessing: Preprocessing, reporter: Reporter
) -> hashlib._Hash:
    shape = (len(indices), preprocessing.height, preprocessing.width, 3)
    digest = hashlib.sha256(repr(shape).encode())
    chunk = max(1, CHUNK_BYTES // (preprocessing.height * preprocessing.width * 3))
    with path.open("wb") as file, reporter.bar("test images", total=len(indices), unit="images") as bar:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, len(indices), chunk):
            part = indices[start : start + chunk]
            content = np.ascontiguousarray(split.load(part, preprocessing)).tobytes()
            file.write(content)
            digest.update(content)
            bar.advance(len(part))
    return digest
