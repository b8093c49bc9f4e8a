"""CIFAR-10 (Krizhevsky 2009).

Torchvision's own class reads the official archive, which is fetched, checked and unpacked here.
"""

from __future__ import annotations

import secrets
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.data.base import files_root
from toolkit.data.dataset import Dataset, digests_of_arrays, split_of_arrays
from toolkit.data.identical import first_of_each
from toolkit.data.splits import divide
from toolkit.dependencies import import_optional
from toolkit.distribution import install_hint
from toolkit.download import Digest, fetch, probe
from toolkit.errors import DataError, FileWriteError
from toolkit.progress import Reporter
from toolkit.recipe import DataRecipe

PROBE_SECONDS = 5.0
"""How long the host of the archive may take to answer."""


class Cifar10Source:
    """Implements ``toolkit.data.base.Source``."""

    name = "cifar10"
    title = "CIFAR-10"
    accepts = repr(name)
    reads_path = False
    downloads = True

    def recognises(self, source: str) -> bool:
        """See ``Source.recognises``."""
        return source == self.name

    def unavailable(self, recipe: DataRecipe, *, network: bool = True) -> str | None:
        """See ``Source.unavailable``."""
        root = files_root(recipe)
        if is_on_disk(root):
            return None
        if not network:
            return f"{self.title} is not in {root}"
        missing = probe(archive_url(), PROBE_SECONDS)
        return None if missing is None else f"{self.title} is not in {root} and cannot be downloaded ({missing})"

    def load(self, recipe: DataRecipe, seed: int, splits: Sequence[str], reporter: Reporter) -> Dataset:
        """See ``Source.load``. The archive is fetched if it is not there; validation is cut from its training images.

        Raises:
            DownloadError: it is not there and cannot be fetched.
            DataError: what is there is not the official data.
            MissingDependencyError: torchvision is not installed.
            FileWriteError: the folder cannot be written.
        """
        files, root = official_files(), files_root(recipe)
        _make_available(root, files, reporter)
        images, targets = {}, {}
        for pool, train in (("train", True), ("test", False)):
            batches = _open(root, files, train)
            images[pool], targets[pool] = batches.data, np.asarray(batches.targets, np.int64)
            labels = tuple(batches.classes)
        digests = {pool: digests_of_arrays(images[pool]) for pool in images}
        parts = divide(targets, labels, recipe, seed, first_of_each(digests["train"]))
        divided = {}
        for name in splits:
            pool, indices = parts[name].pool, parts[name].indices
            divided[name] = split_of_arrays(
                name,
                images[pool][indices],
                targets[pool][indices],
                tuple(f"{pool}/{index:05d}" for index in indices),
                labels,
                [digests[pool][index] for index in indices],
            )
        return Dataset(source=self.name, labels=labels, splits=divided)


@dataclass(frozen=True)
class Cifar10Files:
    """What an archive in CIFAR-10's layout is made of: file names with their MD5 digests."""

    url: str
    archive: str
    archive_md5: str
    folder: str
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    meta: tuple[str, str]


def official_files() -> Cifar10Files:
    """Return the official archive as torchvision knows it.

    Raises:
        MissingDependencyError: torchvision is not installed.
    """
    official = _torchvision_class()
    return Cifar10Files(
        url=official.url,
        archive=official.filename,
        archive_md5=official.tgz_md5,
        folder=official.base_folder,
        train=tuple((name, md5) for name, md5 in official.train_list),
        test=tuple((name, md5) for name, md5 in official.test_list),
        meta=(official.meta["filename"], official.meta["md5"]),
    )


def archive_url() -> str:
    """Return the address of the archive."""
    return official_files().url


def is_on_disk(root: Path) -> bool:
    """Tell whether the data can be had without network.

    The batches or the whole archive are in ``root``, digests checked.
    """
    files = official_files()
    return _batches_are_whole(root, files) or Digest("md5", files.archive_md5).matches(root / files.archive)


def _torchvision_class() -> Any:  # torchvision ships no type information
    return import_optional(
        "torchvision.datasets", f"CIFAR-10 is read by torchvision, which is not installed: {install_hint('train')}"
    ).CIFAR10


def _make_available(root: Path, files: Cifar10Files, reporter: Reporter) -> None:
    if _batches_are_whole(root, files):
        return
    if (root / files.folder).exists():
        raise DataError(
            f"{root / files.folder} is not the official CIFAR-10: a file is missing or has another MD5 digest. "
            f"Remove that folder, and it is made again from {files.archive}."
        )
    archive = fetch(
        files.url,
        root / files.archive,
        digest=Digest("md5", files.archive_md5),
        reporter=reporter,
        by_hand=f"Download {files.archive} (MD5 {files.archive_md5}) by hand and put it at {root / files.archive}.",
    )
    reporter.line(f"unpacking {archive}")
    _unpack(archive, root, files)


def _unpack(archive: Path, root: Path, files: Cifar10Files) -> None:
    temporary = root / f".{files.folder}.{secrets.token_hex(4)}"
    try:
        (temporary / files.folder).mkdir(parents=True)
        _extract(archive, temporary, files)
        if not _batches_are_whole(temporary, files):
            raise DataError(
                f"{archive} does not hold the batches of CIFAR-10 with their official MD5 digests. Remove it and try "
                "again."
            )
        (temporary / files.folder).replace(root / files.folder)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}. Remove it and try again.") from error
    except OSError as error:
        raise FileWriteError(
            f"{archive} cannot be unpacked into {root}: {error.strerror or error}. Free some space or set data.root."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, folder: Path, files: Cifar10Files) -> None:
    """Copy the batches out, and nothing else: names are ours, so no entry of the archive can lead out of the folder."""
    wanted = {f"{files.folder}/{name}" for name, _ in (*files.train, *files.test, files.meta)}
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.name in wanted and member.isfile() else None
            if content is not None:
                with (folder / member.name).open("wb") as target:
                    shutil.copyfileobj(content, target)


def _batches_are_whole(root: Path, files: Cifar10Files) -> bool:
    return all(
        Digest("md5", md5).matches(root / files.folder / name) for name, md5 in (*files.train, *files.test, files.meta)
    )


def _open(root: Path, files: Cifar10Files, train: bool) -> Any:  # torchvision ships no type information
    """Let torchvision check and read the batches: ``data`` uint8 ``[n, 32, 32, 3]``, ``targets``, ``classes``."""
    official = _torchvision_class()
    described = type(
        "CIFAR10",
        (official,),
        {
            "base_folder": files.folder,
            "train_list": [list(entry) for entry in files.train],
            "test_list": [list(entry) for entry in files.test],
            "meta": {"filename": files.meta[0], "key": "label_names", "md5": files.meta[1]},
        },
    )
    try:
        with warnings.catch_warnings():
            # The official pickles spell a flag as 0 where NumPy 2.4 wants False:
            # https://github.com/pytorch/vision/issues/9340
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            batches = described(str(root), train=train)
    except (RuntimeError, OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{root / files.folder} cannot be read as CIFAR-10: {error}. Remove that folder and try again."
        ) from error
    _check_shape(batches.data, batches.targets, root / files.folder)
    return batches


def _check_shape(data: npt.NDArray[np.uint8], targets: Sequence[int], folder: Path) -> None:
    if data.dtype != np.uint8 or len(data) != len(targets):
        raise DataError(
            f"{folder} holds {len(data)} images of dtype {data.dtype} and {len(targets)} labels: not CIFAR-10. "
            "Remove that folder and try again."
        )
