"""Training and validation images for formats that calibrate. Test images cannot get here: the split is never loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.data.dataset import Split
from toolkit.data.of_run import load_splits
from toolkit.formats.base import Calibration
from toolkit.preprocess import Preprocessing
from toolkit.progress import Reporter
from toolkit.run_folder import FinishedRun

TRAINING_IMAGES = 256
"""Ranges of activations settle within some hundred images."""
VALIDATION_IMAGES = 2048
"""Half a point of these is ten images."""
CHUNK = 64
"""Images decoded at once."""

Encode = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.generic]]
"""Turns prepared pixels, uint8 ``[n, H, W, 3]``, into what the graph takes."""


@contextmanager
def calibration_of_run(run: FinishedRun, encode: Encode, max_drop: float, reporter: Reporter) -> Iterator[Calibration]:
    """Prepare images of a run's training and validation splits; nothing is left on disk when the block ends.

    The images are decoded once, into files that the streams map into memory.

    Args:
        run: a finished run.
        encode: see ``InputContract.encode``.
        max_drop: points of validation accuracy that a quantised artifact may lose.
        reporter: where progress goes.

    Raises:
        RunError: the images are not those that the run saw.
        DataError: they cannot be read any more.
    """
    train, validation = load_splits(run, ("train", "validation"), reporter)
    seed, preprocessing = run.recipe.seed, run.record.preprocessing
    with tempfile.TemporaryDirectory(prefix="toolkit-calibration-") as folder:
        chosen, judged = (
            _draw(len(train), TRAINING_IMAGES, (seed, 0)),
            _draw(len(validation), VALIDATION_IMAGES, (seed, 1)),
        )
        with reporter.bar("calibration images", len(chosen) + len(judged), "images") as bar:
            images = _prepare(train, chosen, preprocessing, Path(folder) / "train.npy", bar.advance)
            held_out = _prepare(validation, judged, preprocessing, Path(folder) / "validation.npy", bar.advance)
        yield calibration_of_arrays(images, held_out, validation.targets[judged], encode, max_drop)


def calibration_of_arrays(
    training: npt.NDArray[np.uint8],
    validation: npt.NDArray[np.uint8],
    targets: npt.NDArray[np.int64],
    encode: Encode,
    max_drop: float,
) -> Calibration:
    """Make streams of prepared images, which may be larger than memory (``numpy.memmap``).

    Args:
        training: uint8 ``[n, H, W, 3]``.
        validation: uint8 ``[m, H, W, 3]``.
        targets: class of each validation image, int64 ``[m]``.
        encode: turns pixels into what the graph takes.
        max_drop: points of validation accuracy that a quantised artifact may lose.
    """

    def train(batch_size: int) -> Iterator[npt.NDArray[np.generic]]:
        for start in range(0, len(training), batch_size):
            yield encode(np.array(training[start : start + batch_size]))

    def held_out(batch_size: int) -> Iterator[tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]]:
        for start in range(0, len(validation), batch_size):
            yield encode(np.array(validation[start : start + batch_size])), targets[start : start + batch_size]

    return Calibration(len(training), len(validation), train, held_out, max_drop)


def _draw(count: int, most: int, seed: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Draw images without repetition, all of them where there are few.

    A random order makes the first ones a fair sample too.
    """
    return np.random.default_rng(seed).permutation(count)[:most]


def _prepare(
    split: Split,
    indices: npt.NDArray[np.int64],
    preprocessing: Preprocessing,
    path: Path,
    on_images: Callable[[int], None],
) -> npt.NDArray[np.uint8]:
    shape = (len(indices), preprocessing.height, preprocessing.width, 3)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for start in range(0, len(indices), CHUNK):
        piece = indices[start : start + CHUNK]
        images[start : start + CHUNK] = split.load(piece, preprocessing)
        on_images(len(piece))
    images.flush()
    return images
