"""A folder of images sorted into one folder per class, with or without splits of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from toolkit.data.dataset import SPLITS, Dataset, Split, fingerprint
from toolkit.data.identical import Listed, identical_files
from toolkit.data.layout import LAYOUTS, Pool, find_layout, has_folders, in_words
from toolkit.data.splits import Part, divide
from toolkit.errors import DataError, UnreadableImagesError
from toolkit.files import expanded, open_regular
from toolkit.pixel_depth import joined, small_part
from toolkit.preprocess import Examined, examine
from toolkit.printable import printable
from toolkit.progress import Reporter
from toolkit.recipe import DataRecipe
from toolkit.run_folder import SkippedFile

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_TABLES = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".parquet", ".feather", ".pkl", ".txt", ".tab")
_SHOWN_FAILURES = 20
_SCAN_WORKERS = 4  # reading from disk overlaps with decoding, which Pillow does outside the interpreter's lock
_SCAN_CHUNK = 32


@dataclass(frozen=True, eq=False)
class _Scan:
    """The files of one split as they were read: SHA-256 of each, and whether it can be decoded."""

    part: Part
    paths: list[Path]
    names: list[str]
    digests: list[bytes]
    examined: list[Examined]

    def failures(self) -> list[tuple[str, str]]:
        return [
            (name, one.reason) for name, one in zip(self.names, self.examined, strict=True) if one.reason is not None
        ]


@dataclass(frozen=True)
class PooledFiles:
    """What a source that lists files has found.

    Attributes:
        source: the path that was given.
        root: the folder that the names of images are relative to.
        pools: files by class; of ``train``, and of ``validation`` and ``test`` where the source has them.
        lines: what a person should know about the listing.
    """

    source: Path
    root: Path
    pools: Mapping[str, Pool]
    lines: tuple[str, ...] = ()


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
        """See ``Source.unavailable``.

        Raises:
            DataError: it is no folder, or there is no folder in it, so that it has no classes.
        """
        root = expanded(recipe.source)
        reason = _no_folder(root)
        if reason is not None and root.exists():
            raise DataError(f"{reason}: {_what_to_do(root)}.")
        if reason is None and not has_folders(root):
            find_layout(root, recipe.layout)  # says what to do with what is there
        return reason

    def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter) -> Dataset:
        """See ``Source.load`` and ``load_pools``.

        Raises:
            DataError: the folder is missing, or its content is not at least two classes of enough images, the same in
                each split.
            UnreadableImagesError: files cannot be decoded, and ``recipe.skip_unreadable`` is not set.
        """
        root = expanded(recipe.source)
        if (reason := _no_folder(root)) is not None:
            raise DataError(f"{reason}: {_what_to_do(root)}.")
        layout = find_layout(root, recipe.layout)
        lines = tuple(map(printable, layout.lines))
        return load_pools(PooledFiles(root, root, layout.pools, lines), recipe, seed, splits, reporter)


def _no_folder(root: Path) -> str | None:
    return None if root.is_dir() else f"{printable(root)} is {'not a folder' if root.exists() else 'missing'}"


def _what_to_do(root: Path) -> str:
    """Say what to give instead of a path that is no folder."""
    suffix = root.suffix.lower()
    if root.is_file() and suffix in _ARCHIVES:
        return f"it is an archive; unpack it, and give the folder that comes out of it ({LAYOUTS})"
    if root.is_file() and suffix in _TABLES:
        return "save it as a CSV file with a line 'path,label' and then one line for each image, and give that"
    return f"give a folder, and {LAYOUTS}"


def load_pools(
    listing: PooledFiles, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter
) -> Dataset:
    """Divide listed files into splits, and read each of those that are asked for once.

    The division is taken from the whole listing before any image is decoded, so it does not move when a file breaks or
    is repaired, unless the file is a copy of another one: copies stay together.

    Args:
        listing: the files by split and class.
        recipe: how they are divided.
        seed: of the division.
        splits: those to read.
        reporter: where progress goes, and what a person should know.

    Raises:
        DataError: there are too few images of a class.
        UnreadableImagesError: files cannot be decoded, and ``recipe.skip_unreadable`` is not set.
    """
    pools = listing.pools
    labels = tuple(printable(name) for name in pools["train"].classes)
    if "train" in splits:  # whoever needs no training images was told when they were loaded
        for line in (*listing.lines, *_lines_on_division(listing, recipe)):
            reporter.line(line)
    # Where the source has all three splits nothing is divided, and no file needs to be looked at for that.
    listed = identical_files(pools["train"].paths() if len(pools) < len(SPLITS) else [])
    parts = divide(
        {name: pool.targets() for name, pool in pools.items()},
        labels,
        recipe,
        seed,
        listed.first if len(listed.first) else None,
    )
    scans = {
        name: _scan(name, listing.root, pools[parts[name].pool], parts[name], listed, recipe, reporter)
        for name in splits
    }
    failures = [failure for scan in scans.values() for failure in scan.failures()]
    if failures and not recipe.skip_unreadable:
        raise UnreadableImagesError(_describe(failures), failures)
    read = {
        name: replace(_readable(name, scan, pools[scan.part.pool], labels), max_pixels=recipe.max_pixels)
        for name, scan in scans.items()
    }
    if "train" in read:
        for line in _lines_on_values(read["train"], scaled=_any_depth(recipe)):
            reporter.line(line)
    return Dataset(
        source=str(listing.source.resolve()),
        labels=labels,
        splits=read,
        skipped=tuple(SkippedFile(file=file, reason=reason) for file, reason in failures),
    )


def _lines_on_division(listing: PooledFiles, recipe: DataRecipe) -> list[str]:
    """Say which splits are cut from the training images because the source has none of its own."""
    fractions = {"test": recipe.test_fraction, "validation": recipe.validation_fraction}
    return [
        f"{listing.source} has no {split} split of its own: {fraction:.0%} of the training images are set aside for it"
        for split, fraction in fractions.items()
        if split not in listing.pools
    ]


def _any_depth(recipe: DataRecipe) -> bool:
    return recipe.sixteen_bit != "high-byte"


def _lines_on_values(train: Split, *, scaled: bool) -> list[str]:
    found = [one for one in train.values or () if not (scaled and one.kind == "16 bits")]
    return [line for one in found if (line := small_part(one)) is not None]


def _scan(
    split: str, root: Path, pool: Pool, part: Part, listed: Listed, recipe: DataRecipe, reporter: Reporter
) -> _Scan:
    everything = pool.paths()
    paths = [everything[index] for index in part.indices]
    known = listed.digests if part.pool == "train" else {}
    files = [(everything[index], known.get(int(index))) for index in part.indices]
    chunks = [files[start : start + _SCAN_CHUNK] for start in range(0, len(files), _SCAN_CHUNK)]
    digests: list[bytes] = []
    examined: list[Examined] = []
    executor = ThreadPoolExecutor(_SCAN_WORKERS, thread_name_prefix="toolkit-scan")
    try:
        with reporter.bar(f"reading the {split} images", len(paths), unit="images") as bar:
            for results in executor.map(partial(_read_chunk, recipe), chunks):
                digests += [digest for digest, _ in results]
                examined += [image for _, image in results]
                bar.advance(len(results))
    finally:
        executor.shutdown(cancel_futures=True)
    return _Scan(part, paths, [printable(path.relative_to(root).as_posix()) for path in paths], digests, examined)


def _read_chunk(recipe: DataRecipe, files: Sequence[tuple[Path, bytes | None]]) -> list[tuple[bytes, Examined]]:
    return [_read(path, digest, recipe) for path, digest in files]


def _read(path: Path, digest: bytes | None, recipe: DataRecipe) -> tuple[bytes, Examined]:
    try:
        with open_regular(path) as file:
            found = examine(path, recipe.max_pixels, any_depth=_any_depth(recipe))
            return digest or (hashlib.file_digest(file, "sha256").digest() if found.reason is None else b""), found
    except OSError as error:
        return b"", Examined(error.strerror or str(error))


def _readable(name: str, scan: _Scan, pool: Pool, labels: tuple[str, ...]) -> Split:
    kept = [position for position, one in enumerate(scan.examined) if one.reason is None]
    targets = pool.targets()[scan.part.indices][kept]
    gone = [labels[index] for index in np.flatnonzero(np.bincount(targets, minlength=len(labels)) == 0)]
    if gone:
        raise DataError(
            f"after {len(scan.examined) - len(kept)} unreadable files are left out, {in_words(gone)} has no image in "
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
        values=joined(one.values for one in scan.examined if one.values is not None),
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
