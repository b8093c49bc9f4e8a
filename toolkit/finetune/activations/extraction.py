"""Activations of the frozen part for a whole split.

Computed in one pass over the images, kept on disk, read back in any order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones.frontier import Division
from toolkit.bundle.manifest import Normalization
from toolkit.data import Split
from toolkit.data.augment import make_view
from toolkit.data.batches import iterate_batches
from toolkit.finetune.activations.cache import CacheWriter, FeatureCache, NotFiniteError, open_cache
from toolkit.finetune.activations.catalogue import CacheKey, bytes_needed, free_bytes
from toolkit.finetune.activations.prefix import Prefix, from_stored, stored_shape
from toolkit.preprocess import Preprocessing
from toolkit.progress import Reporter
from toolkit.recipe import AugmentRecipe

PASS_BATCH = 32
SPARE_BYTES = 512 * 2**20
"""Left free on the disk: a cache must not be what fills it."""


class NoCacheError(Exception):
    """The activations cannot be kept; the message says why.

    Never leaves fine-tuning: training goes on without a cache.
    """


@dataclass(frozen=True)
class Features:
    """The kept activations of one split.

    Attributes:
        cache: one row per view of an image, the views of an image side by side.
        views: views of each image.
        targets: int64 ``[n]``.
    """

    cache: FeatureCache
    views: int
    targets: npt.NDArray[np.int64]

    def load(
        self, tensors: Sequence[int], images: npt.NDArray[np.int64], views: npt.NDArray[np.int64], device: torch.device
    ) -> list[torch.Tensor]:
        """Read some images' activations.

        Args:
            tensors: which of the cache's tensors.
            images: indices into the split, ``[b]``.
            views: which view of each, ``[b]``.
            device: where the tensors go.
        """
        rows = images * self.views + views
        return [from_stored(self.cache.read(tensor, rows), device) for tensor in tensors]


class Pass:
    """What is the same for every split: the prefix, and what goes into it.

    Attributes:
        prefix: what computes.
    """

    def __init__(
        self,
        root: Path,
        division: Division,
        digest: str,
        prefix: Prefix,
        preprocessing: Preprocessing,
        normalization: Normalization,
        dtype: str,
        workers: int,
        reporter: Reporter,
    ) -> None:
        self._root = root
        self.prefix = prefix
        self._digest = digest
        self._shapes = tuple((tensor.name, stored_shape(tensor.shape)) for tensor in division.tensors)
        self._preprocessing = preprocessing
        self._normalization = normalization
        self._dtype = dtype
        self._workers = workers
        self._reporter = reporter

    def features(self, split: Split, views: int, augment: AugmentRecipe, seed: int) -> Features:
        """Take a split's activations from the cache, or compute and keep them.

        Raises:
            NoCacheError: they do not fit on the disk.
            FileWriteError: the disk filled up meanwhile, or the folder cannot be written.
            ImageError: an image has gone or changed since it was scanned.
        """
        key = self.key(split, views, augment, seed)
        wide = key.model_copy(update={"dtype": "float32"})
        # The wide one is there where an earlier pass found values that float16 cannot hold.
        for wanted in dict.fromkeys((key, wide)):
            if (cache := open_cache(self._root, wanted, self._reporter)) is not None:
                self._reporter.line(
                    f"{split.name}: activations are there already ({wanted.digest()[:12]}, "
                    f"{bytes_needed(wanted) / 1e6:.0f} MB)"
                )
                return Features(cache, views, split.targets)
        try:
            cache = self._compute(split, key, augment, seed)
        except NotFiniteError as error:
            self._reporter.line(f"{error}: kept in float32 instead")
            cache = self._compute(split, wide, augment, seed)
        return Features(cache, views, split.targets)

    def key(self, split: Split, views: int, augment: AugmentRecipe, seed: int) -> CacheKey:
        """Return what decides the content of a split's cache."""
        changed = {"seed": seed, "flip": augment.flip, "shift": augment.shift} if views > 1 else {}
        return CacheKey.model_validate(
            {
                "prefix_sha256": self._digest,
                "tensors": self._shapes,
                "preprocessing": self._preprocessing.model_dump_json(),
                "normalization": self._normalization.model_dump_json(),
                "dtype": self._dtype,
                "views": views,
                "augmentation": json.dumps(changed, sort_keys=True),
                "data": split.fingerprint,
                "engine": self.prefix.engine,
                "rows": len(split) * views,
            }
        )

    def _compute(self, split: Split, key: CacheKey, augment: AugmentRecipe, seed: int) -> FeatureCache:
        needed, free = bytes_needed(key), free_bytes(self._root)
        if needed + SPARE_BYTES > free:
            raise NoCacheError(
                f"the activations of the {split.name} images need {needed / 1e9:.1f} GB, and {self._root} has "
                f"{free / 1e9:.1f} GB free"
            )
        return self._write(split, key, augment, seed)

    def _write(self, split: Split, key: CacheKey, augment: AugmentRecipe, seed: int) -> FeatureCache:
        views = [make_view(augment, seed, view) for view in range(key.views)]
        order, every = np.arange(len(split), dtype=np.int64), range(len(key.tensors))
        batches = iterate_batches(split, order, PASS_BATCH, self._preprocessing, workers=self._workers)
        with (
            CacheWriter(self._root, key) as writer,
            self._reporter.bar(f"frozen part, {split.name}", key.rows, "img") as bar,
        ):
            for images, _, indices in batches:
                outputs = [self.prefix.run(images if view is None else view(images, indices), every) for view in views]
                writer.append(
                    [_side_by_side([output[tensor] for output in outputs]) for tensor in range(len(key.tensors))]
                )
                bar.advance(len(images) * key.views)
            return writer.seal()


def _side_by_side(views: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Bring views, each ``[n, ...]``, into one array ``[n * views, ...]`` with those of an image next to each other."""
    if len(views) == 1:
        return views[0]
    stacked = np.stack(views, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
