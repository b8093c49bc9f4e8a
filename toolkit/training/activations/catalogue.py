"""Which caches there are, of activations and of exported prefixes: what each holds, its name, and the room it takes.

::

    <cache_root()>/<digest of the key>/     index.json  0.bin  1.bin ...
    <prefix_root()>/<digest of the key>/    index.json  prefix.onnx
    <root>/<digest>.<pid>-<random>.part/    being written, or being removed

What is in the files is the business of ``toolkit.training.activations.cache`` and
``toolkit.training.activations.kept_prefix``, removing them that of ``toolkit.training.activations.cleaning``. No numpy
here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from toolkit.download import cache_folder
from toolkit.errors import ToolkitError
from toolkit.files import read_regular
from toolkit.results import Record

FORMAT_VERSION = 1
"""Part of every digest: a cache in another format is never found."""

PREFIX_FORMAT_VERSION = 1
"""Part of every digest of an exported prefix: to be raised when what is exported of the same network changes."""

SPARE_BYTES = 512 * 2**20
"""Left free on the disk: a cache must not be what fills it."""

INDEX_NAME = "index.json"
_ITEM_BYTES = {"float16": 2, "float32": 4}
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor that crosses from the frozen prefix into the trained part.

    Attributes:
        name: its node in the traced graph.
        shape: of one row, without the batch axis; stored in exactly this order.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Numbers in one row."""
        return math.prod(self.shape)


class CacheKey(Record):
    """Everything that decides what a cache holds.

    Two equal keys mean the same bytes, as far as the engine repeats itself.
    """

    prefix_sha256: str
    """Of the weights, buffers and graph of the prefix."""
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape of one row, as in ``TensorSpec``, in the order of the files."""
    preprocessing: str
    """How a file becomes pixels, as JSON."""
    normalization: str
    """Mean and standard deviation, as JSON."""
    dtype: Literal["float16", "float32"]
    views: int
    """Augmented versions of each image."""
    augmentation: str
    """The recipe of the augmentation and its seed, as JSON."""
    data: str
    """Ordered fingerprint of the split's images."""
    engine: str
    """Name and version of what computed it."""
    rows: int
    """Images times views."""

    def digest(self) -> str:
        """Return the SHA-256 of the key and the format's version, as 64 hexadecimal digits.

        The name of the cache's folder.
        """
        return _digest(self, FORMAT_VERSION)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """What the tensors are, in the order of the files."""
        return tuple(TensorSpec(name, shape) for name, shape in self.tensors)

    def row_bytes(self, tensor: int) -> int:
        """Return the size of one row of a tensor, given by its place in ``tensors``."""
        return self.specs[tensor].elements * _ITEM_BYTES[self.dtype]


class CacheIndex(Record):
    """``index.json``, written last: what a cache is, for a person too, and what its files must hash to."""

    format: int
    key: CacheKey
    created: AwareDatetime
    crc32: tuple[tuple[int, ...], ...]
    """For each file, the CRC-32 of each 4 MiB."""


class PrefixKey(Record):
    """Everything that decides how a prefix is exported, and whether its network was cut rightly.

    How images are prepared is no part of it, but for their size: it decides what the prefix is given, not what it is.
    """

    network_sha256: str
    """Of the graph, the weights and buffers with their types, and the settings and code of all modules."""
    division_sha256: str
    """Of the parts that the whole network was cut into; empty for one that was not cut, which a teacher's is."""
    image_size: tuple[int, int]
    """Height and width in pixels."""
    packages: tuple[tuple[str, str], ...]
    """Name and version of what builds networks, exports them and runs what was exported."""
    processor: str
    """Its architecture, and the instruction set that PyTorch uses of it."""
    toolkit: str
    """Version of toolkit."""

    def digest(self) -> str:
        """Return the SHA-256 of the key and the format's version, as 64 hexadecimal digits: the name of the folder."""
        return _digest(self, PREFIX_FORMAT_VERSION)


class PrefixIndex(Record):
    """``index.json`` of an exported prefix, written last: what it is, and what its file must hash to."""

    format: int
    key: PrefixKey
    created: AwareDatetime
    sha256: str


def _digest(key: Record, version: int) -> str:
    content = {"format": version, "key": key.model_dump(mode="json")}
    return hashlib.sha256(
        json.dumps(content, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One cache, as its index describes it; nothing is checked.

    Attributes:
        digest: name of its folder, 64 hexadecimal digits.
        bytes: what its files take on disk.
        last_used: when it was last opened or written.
        root: the folder that its folder is in.
        created: None where the index cannot be read.
        key: what it holds; None where the index cannot be read.
    """

    digest: str
    bytes: int
    last_used: datetime
    root: Path
    created: datetime | None
    key: CacheKey | PrefixKey | None

    @property
    def rows(self) -> int | None:
        """Images times views."""
        return self.key.rows if isinstance(self.key, CacheKey) else None

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """What each row consists of."""
        return self.key.specs if isinstance(self.key, CacheKey) else ()


def cache_root() -> Path:
    """Return the folder that all caches of activations are in. It need not exist."""
    return cache_folder() / "features"


def prefix_root() -> Path:
    """Return the folder that all exported prefixes are in. It need not exist."""
    return cache_folder() / "prefixes"


def bytes_needed(key: CacheKey) -> int:
    """Return how much room the files of a cache take, without its index (some kilobytes)."""
    return sum(key.row_bytes(tensor) for tensor in range(len(key.tensors))) * key.rows


def free_bytes(folder: Path) -> int:
    """Return how much this user may still write where ``folder`` is, or would be made."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free


def entries(*roots: Path) -> list[Entry]:
    """Return all finished caches in some folders, the one used last first.

    Raises:
        ToolkitError: a folder may not be read.
    """
    caches = []
    for root in roots:
        for folder in folders(root):
            if _DIGEST.fullmatch(folder.name):
                with contextlib.suppress(FileNotFoundError):  # cleared by another process meanwhile
                    caches.append(_entry(folder))
    return sorted(caches, key=lambda entry: entry.last_used, reverse=True)


def find(root: Path, digest_prefix: str, *further: Path) -> Entry:
    """Return the cache whose digest starts with these digits.

    Args:
        root: where the caches are.
        digest_prefix: the first digits.
        further: other folders that it may be in.

    Raises:
        ToolkitError: there is none, or more than one.
    """
    matching = [entry for entry in entries(root, *further) if entry.digest.startswith(digest_prefix.lower())]
    if len(matching) == 1:
        return matching[0]
    many = (
        f"{len(matching)} caches in {root} have digests that start"
        if matching
        else f"no cache in {root} has a digest that starts"
    )
    raise ToolkitError(f"{many} with {digest_prefix!r}: give the digits of one that 'toolkit cache' lists.")


def folders(root: Path) -> list[Path]:
    """Return all folders in the folder of caches, finished or not; none where there is no such folder.

    Raises:
        ToolkitError: it may not be read.
    """
    try:
        return [path for path in root.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ToolkitError(
            f"cannot read {root}: {error.strerror or error}. Choose another folder with TOOLKIT_CACHE."
        ) from error


def _entry(folder: Path) -> Entry:
    index_path = folder / INDEX_NAME
    try:
        index = _read_index(index_path)
        used = index_path.stat().st_mtime
    except (OSError, ValidationError):
        index, used = None, folder.stat().st_mtime
    return Entry(
        digest=folder.name,
        bytes=size_on_disk(folder),
        last_used=datetime.fromtimestamp(used, UTC),
        root=folder.parent,
        created=index.created if index else None,
        key=index.key if index else None,
    )


def _read_index(path: Path) -> CacheIndex | PrefixIndex:
    content = read_regular(path)
    try:
        return CacheIndex.from_json(content)
    except ValidationError:
        return PrefixIndex.from_json(content)


def size_on_disk(folder: Path) -> int:
    """Return what the files of a cache take, as far as they are still there."""
    total = 0
    with contextlib.suppress(OSError):  # removed by another process meanwhile, or not ours to read
        for path in folder.iterdir():
            total += path.stat().st_size
    return total
