"""The extraction of activations: what the frozen part makes of a whole split.

Computed in one pass over the images, kept on disk, read back in any order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones.frontier import Tensor
from toolkit.data import Split
from toolkit.data.augment import default_views, make_view
from toolkit.data.batches import iterate_batches
from toolkit.recipe import Recipe
from toolkit.training.activations.cache import ActivationCache, CacheWriter, NotFiniteError, open_cache
from toolkit.training.activations.catalogue import CacheKey, bytes_needed, cache_root, free_bytes
from toolkit.training.activations.prefix import Prefix, from_stored, stored_shape
from toolkit.training.setting import Setting

EXTRACTION_BATCH = 32
SPARE_BYTES = 512 * 2**20
"""Left free on the disk: a cache must not be what fills it."""


class Extractable(Protocol):
    """A constant function of the images, whose values can be kept."""

    @property
    def title(self) -> str:
        """What it is called while it runs."""

    @property
    def made(self) -> str:
        """What it makes of the images, in the plural."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides what it computes, but for the preparation of the images."""

    @property
    def prefix(self) -> Prefix:
        """What computes it."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """What it computes of an image, as ``prefix`` numbers them."""


Function = TypeVar("Function", bound=Extractable)


class NoCacheError(Exception):
    """The activations cannot be kept; the message says why.

    Never leaves fine-tuning: training goes on without a cache.
    """


def training_views(recipe: Recipe) -> int:
    """Return how many views of each training image a recipe has kept."""
    return recipe.cache.views or default_views(recipe.augment)


@dataclass(frozen=True)
class Activations:
    """The kept activations of one split.

    Attributes:
        cache: one row per view of an image, the views of an image side by side.
        views: views of each image.
        targets: int64 ``[n]``.
        chosen: where the images are in the split, int64 ``[n]``; None for all of it.
    """

    cache: ActivationCache
    views: int
    targets: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64] | None = None

    def part(self, images: npt.NDArray[np.int64]) -> Activations:
        """Return those of some of the images, int64 ``[m]``, which are numbered anew."""
        chosen = images if self.chosen is None else self.chosen[images]
        return replace(self, targets=self.targets[images], chosen=chosen)

    def load(
        self, tensors: Sequence[int], images: npt.NDArray[np.int64], views: npt.NDArray[np.int64], device: torch.device
    ) -> list[torch.Tensor]:
        """Read some images' activations.

        Args:
            tensors: which of the cache's tensors.
            images: indices, ``[b]``.
            views: which view of each, ``[b]``.
            device: where the tensors go.
        """
        rows = (images if self.chosen is None else self.chosen[images]) * self.views + views
        return [from_stored(self.cache.read(tensor, rows), device) for tensor in tensors]


@dataclass(frozen=True)
class Extraction(Generic[Function]):
    """Extracts activations of one divided network, split by split.

    Attributes:
        setting: the run; says how images are prepared, and in which precision what is made of them is kept.
        divided: the network; its prefix computes.
    """

    setting: Setting
    divided: Function

    def activations(self, split: Split, views: int) -> Activations:
        """Take a split's activations from the cache, or compute and keep them.

        Args:
            split: the images.
            views: of each image; the first is the image as it is, the others are augmented as the recipe says.

        Raises:
            NoCacheError: they do not fit on the disk.
            FileWriteError: the disk filled up meanwhile, or the folder cannot be written.
            ImageError: an image has gone or changed since it was scanned.
        """
        key = self.key(split, views)
        wide = key.model_copy(update={"dtype": "float32"})
        # The wide one is there where an earlier pass found values that float16 cannot hold.
        for wanted in dict.fromkeys((key, wide)):
            if (cache := open_cache(cache_root(), wanted, self.setting.reporter)) is not None:
                self.setting.reporter.line(
                    f"{split.name}: {self.divided.made} are there already ({wanted.digest()[:12]}, "
                    f"{bytes_needed(wanted) / 1e6:.0f} MB)"
                )
                return Activations(cache, views, split.targets)
        try:
            cache = self._compute(split, key)
        except NotFiniteError as error:
            self.setting.reporter.line(f"{error}: kept in float32 instead")
            cache = self._compute(split, wide)
        return Activations(cache, views, split.targets)

    def key(self, split: Split, views: int) -> CacheKey:
        """Return what decides the content of a split's cache."""
        recipe = self.setting.recipe
        augment = {"seed": recipe.seed, "flip": recipe.augment.flip, "shift": recipe.augment.shift} if views > 1 else {}
        tensors = tuple((tensor.name, stored_shape(tensor.shape)) for tensor in self.divided.tensors)
        return CacheKey.model_validate(
            {
                "prefix_sha256": self.divided.digest,
                "tensors": tensors,
                "preprocessing": self.setting.preprocessing.model_dump_json(),
                "normalization": self.setting.backbone.normalization.model_dump_json(),
                "dtype": recipe.cache.dtype,
                "views": views,
                "augmentation": json.dumps(augment, allow_nan=False, sort_keys=True),
                "data": split.fingerprint,
                "engine": self.divided.prefix.engine,
                "rows": len(split) * views,
            }
        )

    def _compute(self, split: Split, key: CacheKey) -> ActivationCache:
        root = cache_root()
        needed, free = bytes_needed(key), free_bytes(root)
        if needed + SPARE_BYTES > free:
            raise NoCacheError(
                f"the {self.divided.made} of the {split.name} images need {needed / 1e9:.1f} GB, and {root} has "
                f"{free / 1e9:.1f} GB free"
            )
        with CacheWriter(root, key) as writer:
            self._run_over(split, writer, key)
            return writer.seal()

    def _run_over(self, split: Split, writer: CacheWriter, key: CacheKey) -> None:
        """Run the frozen part over every view of every image."""
        recipe, prefix = self.setting.recipe, self.divided.prefix
        views = [make_view(recipe.augment, recipe.seed, view) for view in range(key.views)]
        order, every = np.arange(len(split), dtype=np.int64), range(len(key.tensors))
        batches = iterate_batches(
            split, order, EXTRACTION_BATCH, self.setting.preprocessing, workers=self.setting.threads
        )
        with self.setting.reporter.bar(f"{self.divided.title}, {split.name}", key.rows, "img") as bar:
            for images, _, indices in batches:
                outputs = [prefix.run(images if view is None else view(images, indices), every) for view in views]
                writer.append([_side_by_side([output[tensor] for output in outputs]) for tensor in every])
                bar.advance(len(images) * key.views)


def _side_by_side(views: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Bring views, each ``[n, ...]``, into one array ``[n * views, ...]`` with those of an image next to each other."""
    if len(views) == 1:
        return views[0]
    stacked = np.stack(views, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
