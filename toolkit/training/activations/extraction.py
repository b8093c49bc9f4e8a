"""The extraction of activations: what the frozen part makes of a whole split.

Computed in one pass over the images, kept on disk, read back in any order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones.frontier import Tensor
from toolkit.data import Split
from toolkit.data.augment import epoch_view, make_view
from toolkit.data.batches import View, load_ahead, load_views
from toolkit.recipe import AugmentRecipe
from toolkit.training.activations.cache import ActivationCache, CacheWriter, NotFiniteError, open_cache
from toolkit.training.activations.catalogue import SPARE_BYTES, CacheKey, bytes_needed, cache_root, free_bytes
from toolkit.training.activations.new_views import NewViews, chosen_images
from toolkit.training.activations.prefix import Prefix, from_stored, stored_shape
from toolkit.training.setting import Setting

EXTRACTION_BATCH = 32
MOST_PREFETCHED = 4
PREFETCHED_VIEWS = 16
"""Batches that are read ahead: at most so many, and fewer where so many views of a batch would be in memory."""


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


@dataclass(frozen=True)
class Activations:
    """The kept activations of one split.

    Attributes:
        cache: one row per view of an image, the views of an image side by side.
        views: views of each image.
        targets: int64 ``[n]``.
        chosen: where the images are in the split, int64 ``[n]``; None for all of it.
        new: views that stand in for the kept ones of some images; None where there are none.
    """

    cache: ActivationCache
    views: int
    targets: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.int64] | None = None
    new: NewViews | None = None

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
            views: which view of each, ``[b]``; an image that has a new one has no other.
            device: where the tensors go.
        """
        own = images if self.chosen is None else self.chosen[images]
        rows = own * self.views + views
        if self.new is None:
            return [from_stored(self.cache.read(tensor, rows), device) for tensor in tensors]
        return [from_stored(self.new.read(tensor, own, self.cache, rows), device) for tensor in tensors]


@dataclass(frozen=True)
class _Pass:
    """What is computed: some views of some images of a split.

    Attributes:
        split: where the images are.
        images: int64 ``[k]``.
        views: of each image.
        tensors: which of all that can be computed.
        title: what the images are called while it runs.
        described: what they are called where there is no room for them.
    """

    split: Split
    images: npt.NDArray[np.int64]
    views: Sequence[View]
    tensors: Sequence[int]
    title: str
    described: str


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
        for wanted in dict.fromkeys((key, wide)):
            if (cache := open_cache(cache_root(), wanted, self.setting.reporter)) is None:
                continue
            # The wide one is this run's where an earlier pass found values that float16 cannot hold. One of a run that
            # asked for float32 is not: what is computed must not depend on what else is kept.
            if wanted != key and cache.fits(key.dtype):
                cache.close()
                continue
            self.setting.reporter.line(
                f"{split.name}: {self.divided.made} are there already ({wanted.digest()[:12]}, "
                f"{bytes_needed(wanted) / 1e6:.0f} MB)"
            )
            return Activations(cache, views, split.targets)
        recipe = self.setting.recipe
        whole = _Pass(
            split,
            np.arange(len(split), dtype=np.int64),
            [make_view(recipe.augment, recipe.seed, view) for view in range(views)],
            range(len(key.tensors)),
            split.name,
            f"the {split.name} images",
        )
        return Activations(self._compute(whole, key, CacheWriter.seal), views, split.targets)

    def new_views(self, split: Split, kept: Activations, tensors: Sequence[int], seed: tuple[int, ...]) -> NewViews:
        """Compute new views of some images, for one epoch.

        Args:
            split: the images.
            kept: their activations, whose type these have too.
            tensors: which of all of them are needed.
            seed: entropy of the epoch, which decides which images and what is drawn.

        Raises:
            NoCacheError: they do not fit on the disk.
            FileWriteError: the disk filled up meanwhile, or the folder cannot be written.
            ImageError: an image has gone or changed since it was scanned.
        """
        recipe = self.setting.recipe
        images = chosen_images(seed, len(split), recipe.cache.new_views(len(split)))
        drawn = {"epoch": seed, **_drawn(recipe.augment)}
        key = kept.cache.key.model_copy(
            update={
                "tensors": tuple(kept.cache.key.tensors[tensor] for tensor in tensors),
                "views": 1,
                "augmentation": json.dumps(drawn, allow_nan=False, sort_keys=True),
                "rows": len(images),
            }
        )
        view = epoch_view(recipe.augment, seed)
        work = _Pass(split, images, [view], tensors, "new views", "new views")
        cache = self._compute(work, key, CacheWriter.hand_over)
        places = np.full(len(split), -1, np.int64)
        places[images] = np.arange(len(images))
        return NewViews(cache, places, tuple(tensors))

    def key(self, split: Split, views: int) -> CacheKey:
        """Return what decides the content of a split's cache."""
        recipe = self.setting.recipe
        augment = {"seed": recipe.seed, **_drawn(recipe.augment)} if views > 1 else {}
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

    def _compute(self, work: _Pass, key: CacheKey, finish: Callable[[CacheWriter], ActivationCache]) -> ActivationCache:
        """Compute in the type of the key; in float32 where values are found that it cannot hold."""
        try:
            return self._written(work, key, finish)
        except NotFiniteError as error:
            self.setting.reporter.line(f"{error}: kept in float32 instead")
            return self._written(work, key.model_copy(update={"dtype": "float32"}), finish)

    def _written(self, work: _Pass, key: CacheKey, finish: Callable[[CacheWriter], ActivationCache]) -> ActivationCache:
        root = cache_root()
        needed, free = bytes_needed(key), free_bytes(root)
        if needed + SPARE_BYTES > free:
            raise NoCacheError(
                f"the {self.divided.made} of {work.described} need {needed / 1e9:.1f} GB, and {root} has "
                f"{free / 1e9:.1f} GB free, of which {SPARE_BYTES / 1e9:.1f} GB stay free"
            )
        with CacheWriter(root, key) as writer:
            self._run_over(work, writer)
            return finish(writer)

    def _run_over(self, work: _Pass, writer: CacheWriter) -> None:
        """Run the frozen part over every view of every image."""
        prefix, count = self.divided.prefix, len(work.views)
        starts = range(0, len(work.images), EXTRACTION_BATCH)
        batches = load_ahead(
            lambda indices: load_views(work.split, indices, self.setting.preprocessing, work.views),
            (work.images[start : start + EXTRACTION_BATCH] for start in starts),
            workers=self.setting.threads,
            prefetch=min(MOST_PREFETCHED, max(1, PREFETCHED_VIEWS // count)),
        )
        with self.setting.reporter.bar(f"{self.divided.title}, {work.title}", len(work.images) * count, "img") as bar:
            for batch in batches:
                outputs = [prefix.run(images, work.tensors) for images in batch]
                writer.append([_side_by_side(list(views)) for views in zip(*outputs, strict=True)])
                bar.advance(len(batch[0]) * count)


def _drawn(recipe: AugmentRecipe) -> dict[str, Any]:
    """Return what a recipe says of how views are drawn; what came later is named where it is asked for."""
    drawn: dict[str, Any] = {"flip": recipe.flip, "shift": recipe.shift}
    if recipe.crop:
        drawn |= {"crop": recipe.crop}
    if recipe.randaugment:
        drawn |= {"randaugment": recipe.randaugment, "magnitude": recipe.magnitude}
    if recipe.erase:
        drawn |= {"erase": recipe.erase, "erase_area": recipe.erase_area}
    return drawn


def _side_by_side(views: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Bring views, each ``[n, ...]``, into one array ``[n * views, ...]`` with those of an image next to each other."""
    if len(views) == 1:
        return views[0]
    stacked = np.stack(views, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])
