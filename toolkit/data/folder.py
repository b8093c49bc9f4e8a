"""A folder of images sorted into one folder per class, with or without splits of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.data.dataset import SPLITS, Dataset, Split, fingerprint
from toolkit.data.identical import Listed, identical_files
from toolkit.data.splits import Part, divide
from toolkit.errors import DataError, ImageError, UnreadableImagesError
from toolkit.preprocess import IMAGE_SUFFIXES, fault, list_images, printable
from toolkit.progress import Reporter
from toolkit.recipe import DataRecipe
from toolkit.runs import SkippedFile

_LAYOUTS = (
    "sort the images into train/<class>/ (with val/<class>/ and test/<class>/ if you have them), or into <class>/"
)
_VALIDATION_NAMES = ("val", "valid", "validation")
_SHOWN_FAILURES = 20
_SCAN_WORKERS = 4  # reading from disk overlaps with decoding, which Pillow does outside the interpreter's lock
_SCAN_CHUNK = 32


@dataclass(frozen=True)
class _Pool:
    """The images of one folder of the source, by class; both in the order of their names."""

    folder: Path
    classes: Mapping[str, list[Path]]

    def paths(self) -> list[Path]:
        return [path for members in self.classes.values() for path in members]

    def targets(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.repeat(np.arange(len(self.classes)), [len(members) for members in self.classes.values()])


@dataclass(frozen=True, eq=False)
class _Scan:
    """The files of one split as they were read: SHA-256 of each, and why it cannot be decoded (None if it can)."""

    part: Part
    paths: list[Path]
    names: list[str]
    digests: list[bytes]
    reasons: list[str | None]

    def failures(self) -> list[tuple[str, str]]:
        return [(name, reason) for name, reason in zip(self.names, self.reasons, strict=True) if reason is not None]


class FolderSource:
    """Implements ``toolkit.data.base.Source``."""

    name = "folder"
    title = "a folder of images"
    accepts = "the path of a folder of images"
    reads_path = True
    downloads = False

    def recognises(self, source: str) -> bool:
        """See ``Source.recognises``: any text can be a path."""
        return True

    def unavailable(self, recipe: DataRecipe, *, network: bool = True) -> str | None:
        """See ``Source.unavailable``."""
        return _no_folder(Path(recipe.source).expanduser())

    def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter) -> Dataset:
        """See ``Source.load``. Every image of the splits that are asked for is read once.

        The division is taken from the whole listing before any image is decoded, so it does not move when a file
        breaks or is repaired, unless the file is a copy of another one: copies stay together.

        Raises:
            DataError: the folder is missing, or its content is not at least two classes of enough images, the same in
                each split.
            UnreadableImagesError: files cannot be decoded, and ``recipe.skip_unreadable`` is not set.
        """
        root = Path(recipe.source).expanduser()
        pools = _pools(root, reporter)
        labels = tuple(printable(name) for name in pools["train"].classes)
        if "train" in splits:  # whoever needs no training images was told when they were loaded
            for line in _lines_on_division(root, pools, recipe):
                reporter.line(line)
        # Where the folder has all three splits nothing is divided, and no file needs to be looked at for that.
        listed = identical_files(pools["train"].paths() if len(pools) < len(SPLITS) else [])
        parts = divide(
            {name: pool.targets() for name, pool in pools.items()},
            labels,
            recipe,
            seed,
            listed.first if len(listed.first) else None,
        )
        scans = {name: _scan(name, root, pools[parts[name].pool], parts[name], listed, reporter) for name in splits}
        failures = [failure for scan in scans.values() for failure in scan.failures()]
        if failures and not recipe.skip_unreadable:
            raise UnreadableImagesError(_describe(failures), failures)
        return Dataset(
            source=str(root.resolve()),
            labels=labels,
            splits={name: _readable(name, scan, pools[scan.part.pool], labels) for name, scan in scans.items()},
            skipped=tuple(SkippedFile(file=file, reason=reason) for file, reason in failures),
        )


def _no_folder(root: Path) -> str | None:
    return None if root.is_dir() else f"{root} is {'not a folder' if root.exists() else 'missing'}"


def _lines_on_division(root: Path, pools: Mapping[str, _Pool], recipe: DataRecipe) -> list[str]:
    """Say which splits are cut from the training images because the folder has none of its own."""
    fractions = {"test": recipe.test_fraction, "validation": recipe.validation_fraction}
    return [
        f"{root} has no {split} split of its own: {fraction:.0%} of the training images are set aside for it"
        for split, fraction in fractions.items()
        if split not in pools
    ]


def _pools(root: Path, reporter: Reporter) -> dict[str, _Pool]:
    if (reason := _no_folder(root)) is not None:
        raise DataError(f"{reason}: give a folder, and {_LAYOUTS}.")
    try:
        folders = _split_folders(root)
        pools = {name: _list_pool(folder, reporter) for name, folder in folders.items()}
    except (OSError, ImageError) as error:
        raise DataError(f"{root} cannot be listed: {error}") from error
    _check_classes(root, pools)
    return pools


def _split_folders(root: Path) -> dict[str, Path]:
    names = {path.name for path in _folders(root)}
    validation = [name for name in _VALIDATION_NAMES if name in names]
    if "train" not in names:
        lonely = [*validation, *(["test"] if "test" in names else [])]
        if lonely:
            raise DataError(f"{root} has {lonely[0]}/ and no train/: {_LAYOUTS}.")
        return {"train": root}
    if len(validation) > 1:
        raise DataError(
            f"{root} has {' and '.join(f'{name}/' for name in validation)}: keep one of them as the validation split."
        )
    folders = {"train": root / "train"}
    if validation:
        folders["validation"] = root / validation[0]
    if "test" in names:
        folders["test"] = root / "test"
    return folders


def _folders(folder: Path) -> list[Path]:
    return sorted(
        (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")),
        key=lambda entry: entry.name,
    )


def _list_pool(folder: Path, reporter: Reporter) -> _Pool:
    classes = {entry.name: list_images(entry) for entry in _folders(folder)}
    loose = [
        entry
        for entry in folder.iterdir()
        if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
    ]
    if loose and not classes:
        raise DataError(
            f"{folder} has no class folders: its {len(loose)} images lie directly in it. To label them, {_LAYOUTS}."
        )
    if not any(classes.values()):
        raise DataError(f"{folder} has no images (files named {', '.join(IMAGE_SUFFIXES)}): {_LAYOUTS}.")
    if loose:
        reporter.line(f"{len(loose)} images directly in {folder} belong to no class and are left out")
    return _Pool(folder, classes)


def _check_classes(root: Path, pools: Mapping[str, _Pool]) -> None:
    train = pools["train"]
    differences = [line for pool in pools.values() for line in _difference(train, pool)]
    if differences:
        raise DataError(f"the splits of {root} do not have the same classes: {'; '.join(differences)}.")
    for pool in pools.values():
        empty = [printable(name) for name, members in pool.classes.items() if not members]
        if empty:
            raise DataError(f"{_classes(empty)} of {pool.folder} has no images: add some, or remove the folder.")
    if len(train.classes) == 1:
        raise DataError(
            f"{train.folder} has one class only, {next(iter(train.classes))!r}: a classifier needs two or more."
        )


def _difference(train: _Pool, pool: _Pool) -> list[str]:
    missing = [printable(name) for name in train.classes if name not in pool.classes]
    extra = [printable(name) for name in pool.classes if name not in train.classes]
    lines = [f"{pool.folder.name}/ lacks {_classes(missing)}"] if missing else []
    return lines + ([f"{pool.folder.name}/ has {_classes(extra)}, which {train.folder.name}/ lacks"] if extra else [])


def _classes(names: Sequence[str]) -> str:
    return ("class " if len(names) == 1 else "classes ") + ", ".join(repr(name) for name in names)


def _scan(split: str, root: Path, pool: _Pool, part: Part, listed: Listed, reporter: Reporter) -> _Scan:
    everything = pool.paths()
    paths = [everything[index] for index in part.indices]
    known = listed.digests if part.pool == "train" else {}
    files = [(everything[index], known.get(int(index))) for index in part.indices]
    chunks = [files[start : start + _SCAN_CHUNK] for start in range(0, len(files), _SCAN_CHUNK)]
    digests: list[bytes] = []
    reasons: list[str | None] = []
    executor = ThreadPoolExecutor(_SCAN_WORKERS, thread_name_prefix="toolkit-scan")
    try:
        with reporter.bar(f"reading the {split} images", len(paths), unit="images") as bar:
            for results in executor.map(_read_chunk, chunks):
                digests += [digest for digest, _ in results]
                reasons += [reason for _, reason in results]
                bar.advance(len(results))
    finally:
        executor.shutdown(cancel_futures=True)
    return _Scan(part, paths, [printable(path.relative_to(root).as_posix()) for path in paths], digests, reasons)


def _read_chunk(files: Sequence[tuple[Path, bytes | None]]) -> list[tuple[bytes, str | None]]:
    return [_read(path, digest) for path, digest in files]


def _read(path: Path, digest: bytes | None) -> tuple[bytes, str | None]:
    try:
        content = path.read_bytes()
    except OSError as error:
        return b"", error.strerror or str(error)
    return digest or hashlib.sha256(content).digest(), fault(content)


def _readable(name: str, scan: _Scan, pool: _Pool, labels: tuple[str, ...]) -> Split:
    kept = [position for position, reason in enumerate(scan.reasons) if reason is None]
    targets = pool.targets()[scan.part.indices][kept]
    gone = [labels[index] for index in np.flatnonzero(np.bincount(targets, minlength=len(labels)) == 0)]
    if gone:
        raise DataError(
            f"after {len(scan.reasons) - len(kept)} unreadable files are left out, {_classes(gone)} has no image in "
            f"the {name} split: "
            f"repair the files, or add images."
        )
    digests = tuple(scan.digests[position] for position in kept)
    return Split(
        name=name,
        sources=[scan.paths[position] for position in kept],
        targets=targets,
        names=tuple(scan.names[position] for position in kept),
        fingerprint=fingerprint(digests, (labels[target] for target in targets)),
        digests=digests,
    )


def _describe(failures: Sequence[tuple[str, str]]) -> str:
    lines = [f"  {name}: {reason}" for name, reason in failures[:_SHOWN_FAILURES]]
    if len(failures) > _SHOWN_FAILURES:
        lines.append(f"  and {len(failures) - _SHOWN_FAILURES} more")
    count = "1 image file" if len(failures) == 1 else f"{len(failures)} image files"
    return (
        f"{count} cannot be read:\n"
        + "\n".join(lines)
        + "\nRepair or remove them, or leave them out with --skip-unreadable."
    )
