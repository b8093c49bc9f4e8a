"""Preprocessing parity, apart from the graph.

The path that a service takes against the path that training took, pixel by pixel.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.bundle import Bundle
from toolkit.data import Split
from toolkit.data.batches import iterate_batches
from toolkit.errors import ImageError
from toolkit.preprocess import ImageSource, Preprocessing, prepare
from toolkit.results import Check
from toolkit.verify.hard_files import hard_files

Pixels = npt.NDArray[np.uint8]


def check_preprocessing(bundle: Bundle, trained: Preprocessing, test: Split) -> Check:
    """Send hard files down both paths, and prepare the images of the golden samples again.

    Training reads files, several threads at a time, under the run's record; a service is handed paths, bytes or Pillow
    images, one at a time, under the manifest's. Golden samples hold the pixels of the day of export: what a newer
    Pillow makes of the same image shows in them.

    Args:
        bundle: the bundle.
        trained: the preprocessing of the run's record.
        test: the run's test images.
    """
    started = time.perf_counter()
    shipped = bundle.manifest.preprocessing
    files = hard_files()
    failures = _hard(files, trained, shipped)
    compared = _golden(bundle, test, failures)
    return Check(
        name="preprocessing",
        passed=not failures,
        failures=tuple(failures),
        detail=f"{len(files)} hard files and {compared} golden samples, pixel by pixel",
        seconds=time.perf_counter() - started,
    )


def _hard(files: dict[str, bytes], trained: Preprocessing, shipped: Preprocessing) -> list[str]:
    failures = []
    with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
        paths = [Path(folder, f"{index:02d}-{name}") for index, name in enumerate(files)]
        for path, content in zip(paths, files.values(), strict=True):
            path.write_bytes(content)
        try:
            as_trained = _as_training_reads(paths, trained)
        except ImageError as error:
            return [f"training cannot read a hard file: {error}"]
        for (name, content), path, expected in zip(files.items(), paths, as_trained, strict=True):
            with Image.open(io.BytesIO(content)) as opened:
                ways: dict[str, ImageSource] = {"a path": path, "bytes": content, "a Pillow image": opened}
                for way, source in ways.items():
                    try:
                        failures += _differences(f"{name} given as {way}", expected, prepare(source, shipped))
                    except ImageError as error:
                        failures.append(f"{name} given as {way} is refused: {error}")
    return failures


def _as_training_reads(paths: list[Path], trained: Preprocessing) -> Pixels:
    order = np.arange(len(paths), dtype=np.int64)
    split = Split("train", paths, order, tuple(path.name for path in paths), "0" * 64)
    return np.concatenate([images for images, _, _ in iterate_batches(split, order, 4, trained)])


def _golden(bundle: Bundle, test: Split, failures: list[str]) -> int:
    """Compare the golden samples whose image is at hand; return how many these are."""
    positions = {name: index for index, name in enumerate(test.names)}
    compared = 0
    for case, stored in zip(bundle.golden().cases, bundle.golden_images(), strict=True):
        if case.source in positions:
            again = prepare(test.sources[positions[case.source]], bundle.manifest.preprocessing, test.max_pixels)
            failures += _differences(f"golden sample {case.file} ({case.source})", stored, again)
            compared += 1
    if not compared:
        failures.append("none of the golden samples is made from a test image of this run")
    return compared


def _differences(what: str, expected: Pixels, actual: Pixels) -> list[str]:
    if expected.shape != actual.shape:
        return [f"{what} becomes {list(actual.shape)} instead of {list(expected.shape)} pixels"]
    difference = np.abs(expected.astype(np.int16) - actual)
    if not difference.any():
        return []
    return [
        f"{what} differs in {int(difference.any(axis=2).sum())} of {expected.shape[0] * expected.shape[1]} pixels, "
        f"by up to {difference.max()}"
    ]
