"""Small caches of activations, for the tests of what keeps, lists and removes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from toolkit.training.activations.cache import CacheWriter
from toolkit.training.activations.catalogue import CacheKey


def make_key(**changes: object) -> CacheKey:
    fields: dict[str, object] = {
        "prefix_sha256": "a" * 64,
        "tensors": (("pool", (4, 2)),),
        "preprocessing": '{"resize":"squash"}',
        "normalization": '{"mean":[0.5]}',
        "dtype": "float16",
        "views": 1,
        "augmentation": "{}",
        "data": "b" * 64,
        "engine": "torch 2.9",
        "rows": 5,
    }
    return CacheKey.model_validate(fields | changes)


def write(root: Path, key: CacheKey) -> Path:
    with CacheWriter(root, key) as writer:
        writer.append([np.ones((key.rows, *shape), np.float32) for _, shape in key.tensors])
        cache = writer.seal()
    cache.close()
    return cache.folder


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())
