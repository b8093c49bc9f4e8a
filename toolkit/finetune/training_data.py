"""From a recipe to feeds.

Where the network is cut, what runs the frozen part, and what to do where it cannot be cut or kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from toolkit.backbones import Backbone, TrainableParts, set_trainable
from toolkit.backbones.deployable import Deployable
from toolkit.backbones.frontier import Cut, Division, NoFrontierError, divide_at_frontier, independent_stages
from toolkit.data import Dataset, Split
from toolkit.data.augment import default_views
from toolkit.data.batches import iterate_batches
from toolkit.finetune.activations.catalogue import CacheKey, cache_root, discard_abandoned
from toolkit.finetune.activations.extraction import Features, NoCacheError, Pass
from toolkit.finetune.activations.prefix import PrefixNetwork, from_stored, make_prefix
from toolkit.finetune.batch_sources import FeatureFeed, Feed, ImageFeed, Tensors
from toolkit.finetune.evaluate import EVALUATION_BATCH, predict_logits
from toolkit.finetune.group import Group
from toolkit.finetune.precision import Precision
from toolkit.preprocess import Preprocessing
from toolkit.progress import Bar, Reporter
from toolkit.recipe import AugmentRecipe, Recipe


@dataclass
class Cached:
    """A divided network with what runs its prefix.

    Attributes:
        division: the network, cut once per stage in ``numbers``.
        numbers: of the stages, 1 or 2.
        work: the pass over the images.
        views: of each training image.
        whole: True where one division serves all stages, so that its prefix is frozen throughout.
    """

    division: Division
    numbers: tuple[int, ...]
    work: Pass
    views: int
    whole: bool


@dataclass(frozen=True)
class Probe:
    """What is trained and what is asked in one stage, without its data.

    Attributes:
        trainee: as in ``Feed``.
        module: the same in inference mode.
    """

    trainee: nn.Module
    module: nn.Module

    def infer(self, tensors: Tensors) -> torch.Tensor:
        """Return logits ``[b, C]``."""
        logits: torch.Tensor = self.module(*tensors)
        return logits


class Feeding:
    """Makes the feed of each stage.

    Attributes:
        train: this process's training images.
        validation: this process's validation images.
        cached: how the network is divided; None where training goes without a cache.
    """

    def __init__(
        self,
        recipe: Recipe,
        backbone: Backbone,
        dataset: Dataset,
        preprocessing: Preprocessing,
        device: torch.device,
        threads: int,
        precision: Precision,
        group: Group,
        reporter: Reporter,
    ) -> None:
        """Move the network to the device, divide it and open the engine of its frozen part.

        Computes nothing of the images yet.
        """
        self._recipe = recipe
        self._backbone = backbone
        self._preprocessing = preprocessing
        self._device = device
        self._threads = threads
        self._precision = precision
        self._group = group
        self._reporter = reporter
        self._features: dict[str, Features] = {}
        self.train, self.validation = (_part(dataset.split(name), group) for name in ("train", "validation"))
        # Depthwise convolutions and most others run faster on a CPU in this layout, and uint8 [N,H,W,3] images already
        # have it.
        backbone.model.to(memory_format=torch.channels_last)
        self.cached = self._divide(None)
        backbone.model.to(device)
        self._network = Deployable(backbone.model, backbone.normalization).to(device)

    def feed(self, number: int) -> Feed:
        """Return what a stage trains on; computes or opens the activations that it needs.

        Raises:
            FileWriteError: the disk filled up, or the cache's folder cannot be written.
            ImageError: an image has gone or changed since it was scanned.
        """
        if self.cached is not None and number not in self.cached.numbers:
            self.close()
            self.cached = self._divide(number)
        if self.cached is not None and self._fill(self.cached):
            cut = self.cached.division.cuts[self.cached.numbers.index(number)]
            return FeatureFeed(
                cut,
                self._places(self.cached.division, cut),
                self._features["train"],
                self._features["validation"],
                self._device,
            )
        return self.image_feed()

    def image_feed(self) -> ImageFeed:
        """Return the feed that runs whole images through the whole network."""
        return ImageFeed(
            self._network,
            self.train,
            self.validation,
            self._preprocessing,
            self._recipe.augment,
            self._device,
            self._threads,
        )

    def predict(self, split: Split, bar: Bar) -> npt.NDArray[np.float32]:
        """Return float32 logits ``[n, C]`` of every image of a split, with the weights as they are now.

        The frozen part in its own engine.
        """
        self._backbone.model.eval()
        if self.cached is None or not self.cached.whole:
            return predict_logits(self._network, split, self._preprocessing, self._device, self._threads, bar)
        cut = self.cached.division.cuts[-1]
        wanted = self._places(self.cached.division, cut)
        parts = []
        order = np.arange(len(split), dtype=np.int64)
        with torch.inference_mode():
            for images, _, _ in iterate_batches(
                split, order, EVALUATION_BATCH, self._preprocessing, workers=self._threads
            ):
                outputs = self.cached.work.prefix.run(images, wanted)
                logits = cut.infer(*(from_stored(output, self._device) for output in outputs))
                parts.append(logits.float().cpu().numpy())
                bar.advance(len(images))
        return np.concatenate(parts)

    @property
    def views(self) -> int:
        """Views of each training image that are kept."""
        return self.cached.views if self.cached else 1

    def run_prefix(self, images: npt.NDArray[np.uint8]) -> None:
        """Run the frozen part on prepared images, to measure it."""
        if self.cached is not None:
            self.cached.work.prefix.run(images, range(len(self.cached.division.tensors)))

    def sample(self, number: int, images: npt.NDArray[np.uint8]) -> tuple[Probe, Tensors]:
        """Return what a stage trains and one batch for it, without keeping anything.

        A stage that cannot be divided before an earlier one has ended is given the whole network.
        """
        if self.cached is None or number not in self.cached.numbers:
            feed = self.image_feed()
            return Probe(feed.trainee, feed.trainee), [torch.from_numpy(images).to(self._device)]
        cut = self.cached.division.cuts[self.cached.numbers.index(number)]
        outputs = self.cached.work.prefix.run(images, self._places(self.cached.division, cut))
        return Probe(cut.train, cut.infer), [from_stored(output, self._device) for output in outputs]

    def keys(self) -> list[CacheKey]:
        """Return what decides the content of each cache that the present division needs; empty without one."""
        return [self.cached.work.key(*arguments) for arguments in self._wanted(self.cached)] if self.cached else []

    @staticmethod
    def _places(division: Division, cut: Cut) -> list[int]:
        """Return where a cut's tensors stand among all that the prefix returns."""
        names = [tensor.name for tensor in division.tensors]
        return [names.index(tensor.name) for tensor in cut.tensors]

    def _divide(self, number: int | None) -> Cached | None:
        """Divide for one stage, or for as many as one pass over the images can serve."""
        recipe = self._recipe
        if not recipe.cache.use:
            return None
        stages = {
            n: stage
            for n, stage in ((1, recipe.stage1), (2, recipe.stage2))
            if stage.epochs > 0 and number in (None, n)
        }
        parts = [
            set_trainable(self._backbone, stage.unfreeze, train_bn=recipe.train.train_bn) for stage in stages.values()
        ]
        numbers, whole = tuple(stages), number is None
        if not independent_stages(parts):
            numbers, parts, whole = numbers[:1], parts[:1], False
        try:
            return self._open(parts, numbers, whole)
        except NoFrontierError as error:
            self._reporter.line(
                f"training goes on without a cache of activations: {self._backbone.name} cannot be cut at its frozen "
                f"part, {error}"
            )
            return None

    def _open(self, parts: Sequence[TrainableParts], numbers: tuple[int, ...], whole: bool) -> Cached:
        started = time.perf_counter()
        self._backbone.model.cpu()
        division = divide_at_frontier(self._backbone, parts)
        network = PrefixNetwork(division, self._backbone.normalization)
        # The engine may move the network to its device; the digest is of the weights alone and taken before.
        digest = network.digest()
        prefix = make_prefix(
            network,
            self._preprocessing.height,
            self._device,
            self._threads,
            self._precision.narrow,
            self._reporter.line,
        )
        for cut in division.cuts:
            cut.train.to(self._device)
            cut.infer.to(self._device)
        self._backbone.model.to(self._device)
        work = Pass(
            root=cache_root(),
            division=division,
            digest=digest,
            prefix=prefix,
            preprocessing=self._preprocessing,
            normalization=self._backbone.normalization,
            dtype=self._recipe.cache.dtype,
            workers=self._threads,
            reporter=self._reporter,
        )
        shapes = ", ".join(f"{tensor.name} {'x'.join(map(str, tensor.shape))}" for tensor in division.tensors)
        seconds = time.perf_counter() - started
        self._reporter.line(
            f"frozen part: runs in {prefix.engine}, activations kept of each image: {shapes} (ready after "
            f"{seconds:.1f} s)"
        )
        return Cached(division, numbers, work, self._recipe.cache.views or default_views(self._recipe.augment), whole)

    def _fill(self, cached: Cached) -> bool:
        """Have the activations of both splits at hand; return False where they cannot be kept, in any process."""
        if self._features:
            return True
        discard_abandoned(cache_root())
        found: dict[str, Features] = {}
        problem = ""
        try:
            for split, views, augment, seed in self._wanted(cached):
                found[split.name] = cached.work.features(split, views, augment, seed)
        except NoCacheError as error:
            problem = str(error)
        except BaseException:
            _close(found)
            raise
        (failed,) = self._group.sum([float(bool(problem))])
        if failed:
            self._reporter.line(
                f"training goes on without a cache of activations: {problem or 'another process cannot keep its own'}"
            )
            _close(found)
            self.cached = None
            return False
        self._features = found
        return True

    def _wanted(self, cached: Cached) -> list[tuple[Split, int, AugmentRecipe, int]]:
        return [
            (self.train, cached.views, self._recipe.augment, self._recipe.seed),
            (self.validation, 1, AugmentRecipe(), self._recipe.seed),
        ]

    def close(self) -> None:
        """Close the kept activations; they stay on the disk."""
        _close(self._features)
        self._features = {}


def _close(features: Mapping[str, Features]) -> None:
    for kept in features.values():
        kept.cache.close()


def _part(split: Split, group: Group) -> Split:
    """Return this process's images of a split; the fingerprint says which part it is."""
    if group.world == 1:
        return split
    indices = group.part(len(split))
    return replace(
        split,
        sources=[split.sources[index] for index in indices],
        targets=split.targets[indices],
        names=tuple(split.names[index] for index in indices),
        fingerprint=f"{split.fingerprint} part {group.rank} of {group.world}",
    )
