"""Some of the images of an image folder, drawn by a seed."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.errors import BenchmarkError

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Subset:
    """A folder of links to some of the images of another folder."""

    folder: Path
    train: int
    test: int
    classes: int
    fingerprint: str
    """SHA-256 over the names of the chosen files: equal where the same images were chosen."""


def shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide ``total`` images over classes in proportion to what each has (largest remainders, at least one per class).

    Raises:
        BenchmarkError: there are fewer images than ``total``, or fewer asked for than there are classes.
    """
    images = sum(available.values())
    if not len(available) <= total <= images:
        raise BenchmarkError(
            f"{total} images cannot be drawn from {images} images of {len(available)} classes: give {len(available)} "
            f"to {images}."
        )
    exact = {name: total * count / images for name, count in available.items()}
    chosen = {name: max(1, math.floor(value)) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: chosen[name] - exact[name]):
        if sum(chosen.values()) >= total:
            break
        chosen[name] += chosen[name] < available[name]
    while sum(chosen.values()) > total:
        chosen[max(chosen, key=lambda name: chosen[name])] -= 1
    return chosen


def make_subset(data: Path, folder: Path, train: int, test: int, seed: int, test_seed: int | None = None) -> Subset:
    """Link a seeded draw, stratified by class, of ``data/train/<class>`` and ``data/test/<class>`` into ``folder``.

    Smaller subsets of one seed are contained in larger ones, up to the rounding of the classes.

    Args:
        data: what is drawn from.
        folder: where the links are made.
        train: how many training images.
        test: how many test images.
        seed: of the draw.
        test_seed: of the draw of the test images, where several draws are to be tested on the same ones.

    Raises:
        BenchmarkError: a split is missing, the splits have different classes, or there are too few images.
    """
    digest = hashlib.sha256()
    classes: dict[str, set[str]] = {}
    for split, total, drawn_by in (("train", train, seed), ("test", test, seed if test_seed is None else test_seed)):
        available = _listing(data, split)
        classes[split] = set(available)
        for name, count in shares({name: len(files) for name, files in available.items()}, total).items():
            files = list(available[name])
            random.Random(f"{drawn_by}/{split}/{name}").shuffle(files)
            target = folder / split / name
            target.mkdir(parents=True)
            for file in sorted(files[:count]):
                (target / file.name).symlink_to(file.resolve())
                digest.update(f"{split}/{name}/{file.name}\n".encode())
    if classes["train"] != classes["test"]:
        raise BenchmarkError(f"train/ and test/ of {data} have different classes: give both the same class folders.")
    return Subset(folder, train, test, len(classes["train"]), digest.hexdigest())


def _listing(data: Path, split: str) -> dict[str, list[Path]]:
    root = data / split
    if not root.is_dir():
        raise BenchmarkError(
            f"{data} has no folder {split}/: give a folder with train/<class>/*.jpg and test/<class>/*.jpg."
        )
    folders = {
        entry.name: sorted(file for file in entry.iterdir() if file.suffix.lower() in SUFFIXES)
        for entry in sorted(root.iterdir())
        if entry.is_dir()
    }
    filled = {name: files for name, files in folders.items() if files}
    if not filled:
        raise BenchmarkError(
            f"{root} has no images ({', '.join(SUFFIXES)}) in class folders: give a folder with {split}/<class>/*.jpg."
        )
    return filled
