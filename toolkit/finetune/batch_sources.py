"""What a stage of training is fed.

Whole images into the whole network, or kept activations into what lies behind the frozen part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable
from toolkit.backbones.frontier import Cut
from toolkit.data import Split
from toolkit.data.augment import make_augment
from toolkit.data.batches import iterate_batches, load_ahead
from toolkit.finetune.activations.extraction import Features
from toolkit.preprocess import Preprocessing
from toolkit.recipe import AugmentRecipe

Indices = npt.NDArray[np.int64]
Tensors = Sequence[torch.Tensor]

PREFETCH = 4
VALIDATION_BATCH = 64


@dataclass(frozen=True)
class Draw:
    """One epoch's order.

    Attributes:
        order: indices into the training images, int64 ``[n]``.
        batch_size: images per step.
        seed: entropy of everything else that is drawn for the epoch.
    """

    order: Indices
    batch_size: int
    seed: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-len(self.order) // self.batch_size)

    def pieces(self, first: int) -> list[Indices]:
        """Return the indices of each batch from step ``first`` (0 is the first)."""
        return [
            self.order[start : start + self.batch_size]
            for start in range(first * self.batch_size, len(self.order), self.batch_size)
        ]


class Feed(Protocol):
    """Batches and the module that is trained on them."""

    trainee: nn.Module
    """Takes the tensors of a training batch, returns logits ``[b, C]``."""

    def training(self, draw: Draw, first: int) -> Iterator[tuple[Tensors, torch.Tensor]]:
        """Yield an epoch's batches from step ``first``.

        What ``forward`` takes, and targets int64 ``[b]``, on the device.
        """

    def validation(self) -> Iterator[Tensors]:
        """Yield the validation images in order."""

    def infer(self, tensors: Tensors) -> torch.Tensor:
        """Return logits ``[b, C]``; the network must be in inference mode."""


class _Logits(nn.Module):
    """A ``Deployable`` without its second output."""

    def __init__(self, network: Deployable) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        logits: torch.Tensor = self.network(images)[0]
        return logits


class ImageFeed:
    """Images through the whole network: what training is without a cache."""

    def __init__(
        self,
        network: Deployable,
        train: Split,
        validation: Split,
        preprocessing: Preprocessing,
        augment: AugmentRecipe,
        device: torch.device,
        workers: int,
    ) -> None:
        self.trainee: nn.Module = _Logits(network)
        self._train = train
        self._validation = validation
        self._preprocessing = preprocessing
        self._augment = augment
        self._device = device
        self._workers = workers

    def training(self, draw: Draw, first: int) -> Iterator[tuple[Tensors, torch.Tensor]]:
        """See ``Feed``."""
        order = draw.order[first * draw.batch_size :]
        augment = make_augment(self._augment, *_two_seeds(draw.seed))
        batches = iterate_batches(
            self._train, order, draw.batch_size, self._preprocessing, augment=augment, workers=self._workers
        )
        for images, targets, _ in batches:
            yield [torch.from_numpy(images).to(self._device)], torch.from_numpy(targets).to(self._device)

    def validation(self) -> Iterator[Tensors]:
        """See ``Feed``."""
        order = np.arange(len(self._validation), dtype=np.int64)
        for images, _, _ in iterate_batches(
            self._validation, order, VALIDATION_BATCH, self._preprocessing, workers=self._workers
        ):
            yield [torch.from_numpy(images).to(self._device)]

    def infer(self, tensors: Tensors) -> torch.Tensor:
        """See ``Feed``."""
        logits: torch.Tensor = self.trainee(*tensors)
        return logits


class FeatureFeed:
    """Kept activations through the suffix."""

    def __init__(
        self, cut: Cut, tensors: Sequence[int], train: Features, validation: Features, device: torch.device
    ) -> None:
        """Feed one stage.

        Args:
            cut: where it cuts the network.
            tensors: which of the kept tensors are its frontier, in its order.
            train: activations of the training images.
            validation: activations of the validation images.
            device: where training runs.
        """
        self._cut = cut
        self.trainee: nn.Module = cut.train
        self._tensors = tuple(tensors)
        self._train = train
        self._validation = validation
        self._device = device

    def training(self, draw: Draw, first: int) -> Iterator[tuple[Tensors, torch.Tensor]]:
        """See ``Feed``; a fresh view of each image is drawn per epoch."""
        views = np.random.default_rng([*draw.seed, 1]).integers(0, self._train.views, len(self._train.targets))

        def load(images: Indices) -> tuple[Tensors, torch.Tensor]:
            tensors = self._train.load(self._tensors, images, views[images], self._device)
            return tensors, torch.from_numpy(self._train.targets[images]).to(self._device)

        return load_ahead(load, draw.pieces(first), workers=1, prefetch=PREFETCH)

    def validation(self) -> Iterator[Tensors]:
        """See ``Feed``."""
        count = len(self._validation.targets)
        pieces = [np.arange(start, min(start + VALIDATION_BATCH, count)) for start in range(0, count, VALIDATION_BATCH)]

        def load(images: Indices) -> Tensors:
            return self._validation.load(self._tensors, images, np.zeros_like(images), self._device)

        return load_ahead(load, pieces, workers=1, prefetch=PREFETCH)

    def infer(self, tensors: Tensors) -> torch.Tensor:
        """See ``Feed``."""
        logits: torch.Tensor = self._cut.infer(*tensors)
        return logits


def _two_seeds(seed: tuple[int, ...]) -> tuple[int, int]:
    """Return seed and epoch as ``make_augment`` takes them."""
    first, *rest = seed
    return first, int(np.random.SeedSequence(rest).generate_state(1)[0])
