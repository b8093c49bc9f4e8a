"""Preprocessing parity, apart from the graph.

The path that a service takes against the path that training took, pixel by pixel.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.bundle import Bundle
from toolkit.bundle.manifest import golden_source
from toolkit.data import Split
from toolkit.data.batches import iterate_batches
from toolkit.errors import ImageError
from toolkit.preprocess import Preprocessing, prepare
from toolkit.results import Check
from toolkit.verify.hard_files import differences, handed_over, hard_files, hard_paths, large_files

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
    # They are the same twice unless somebody has changed one of the two.
    files = hard_files()
    for each in (shipped,) if shipped == trained else (shipped, trained):
        files |= large_files(each)
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
    with hard_paths(files) as paths:
        try:
            as_trained = _as_training_reads(paths, trained)
        except ImageError as error:
            return [f"training cannot read a hard file: {error}"]
        for (name, content), path, expected in zip(files.items(), paths, as_trained, strict=True):
            failures += handed_over(name, content, path, expected, shipped)
    return failures


def _as_training_reads(paths: list[Path], trained: Preprocessing) -> Pixels:
    order = np.arange(len(paths), dtype=np.int64)
    split = Split("train", paths, order, tuple(path.name for path in paths), "0" * 64)
    return np.concatenate([images for images, _, _ in iterate_batches(split, order, 4, trained)])


def _golden(bundle: Bundle, test: Split, failures: list[str]) -> int:
    """Compare the golden samples whose image is at hand; return how many these are."""
    # Bundles of older versions call an image by the name of its file.
    positions = {name: index for index, name in enumerate(test.names)}
    positions |= {golden_source(index): index for index in range(len(test.names))}
    compared = 0
    for case, stored in zip(bundle.golden().cases, bundle.golden_images(), strict=True):
        if case.kind == "image" and case.source in positions:
            again = prepare(test.sources[positions[case.source]], bundle.manifest.preprocessing, test.max_pixels)
            failures += differences(f"golden sample {case.file} ({case.source})", stored, again)
            compared += 1
    if not compared:
        failures.append("none of the golden samples is made from a test image of this run")
    return compared
