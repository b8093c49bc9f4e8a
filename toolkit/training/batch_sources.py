"""Where the batches of a stage come from.

Whole images for the whole network, or kept activations for what lies behind the frozen part.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable
from toolkit.backbones.frontier import Cut
from toolkit.data import Split
from toolkit.data.augment import epoch_view
from toolkit.data.batches import iterate_batches, load_ahead
from toolkit.training.activations.extraction import Activations
from toolkit.training.activations.new_views import NewViews
from toolkit.training.setting import Setting

Indices = npt.NDArray[np.int64]
Tensors = Sequence[torch.Tensor]

PREFETCH = 4
VALIDATION_BATCH = 64


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch's images.

    Attributes:
        indices: into the training images, int64 ``[n]``.
        batch_size: images per step.
        seed: entropy of everything else that is drawn for the epoch.
    """

    indices: Indices
    batch_size: int
    seed: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-len(self.indices) // self.batch_size)

    def batches(self, first: int) -> list[Indices]:
        """Return the indices of each batch from step ``first`` (0 is the first)."""
        return [
            self.indices[start : start + self.batch_size]
            for start in range(first * self.batch_size, len(self.indices), self.batch_size)
        ]


def in_order(images: int) -> EpochOrder:
    """Return the order in which so many images are numbered."""
    return EpochOrder(np.arange(images, dtype=np.int64), VALIDATION_BATCH, ())


@dataclass(frozen=True)
class TrainedPart:
    """The part of the network that runs in every step of a stage, from the tensors of a batch to logits ``[b, C]``.

    Attributes:
        train: with training-mode behaviour.
        infer: in inference mode; the network must be in it too. Both share their parameters with the network.
    """

    train: nn.Module
    infer: nn.Module


class Batch(NamedTuple):
    """What one step of training takes, on the device."""

    tensors: Tensors
    """What the trained part takes."""
    targets: torch.Tensor
    """int64 ``[b]``."""
    taught: torch.Tensor | None = None
    """The teacher's logits of what the tensors were made of, float32 ``[b, C]``; None without a teacher."""


class BatchSource(Protocol):
    """Batches of one stage, and the part of the network that they go through."""

    part: TrainedPart
    views: int
    """Of each training image that can be had by number: the image as it is, and augmented ones that are kept."""

    def training(self, order: EpochOrder, first: int) -> Iterator[Batch]:
        """Yield an epoch's batches from step ``first``. A generator: closing it stops reading ahead."""

    def view(self, number: int, order: EpochOrder | None = None) -> Iterator[Tensors]:
        """Yield batches of a view of the training images, as ``part`` takes them, on the device.

        Args:
            number: of the view; 0 are the images as they are.
            order: which images; by default all of them, as they are numbered.
        """

    def validation(self) -> Iterator[Tensors]:
        """Yield the validation images in order, as ``part`` takes them, on the device."""


class LogitsNetwork(nn.Module):
    """A ``Deployable`` without its second output."""

    def __init__(self, network: Deployable) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits of uint8 ``[N, H, W, 3]``."""
        logits: torch.Tensor = self.network(images)[0]
        return logits


class ImageBatches:
    """Images for the whole network: what training is without a cache."""

    def __init__(
        self,
        setting: Setting,
        network: Deployable,
        train: Split,
        validation: Split,
        trained: Deployable | None = None,
    ) -> None:
        """Prepare one stage.

        Args:
            setting: the run.
            network: the whole of it.
            train: the training images.
            validation: the validation images.
            trained: the network as it is trained; itself by default.
        """
        self.part = TrainedPart(LogitsNetwork(trained or network), LogitsNetwork(network))
        self.views = 1
        self._setting = setting
        self._train = train
        self._validation = validation

    def training(self, order: EpochOrder, first: int) -> Iterator[Batch]:
        """See ``BatchSource``."""
        device = self._setting.device
        batches = iterate_batches(
            self._train,
            order.indices[first * order.batch_size :],
            order.batch_size,
            self._setting.preprocessing,
            view=epoch_view(self._setting.recipe.augment, order.seed),
            workers=self._setting.threads,
        )
        for images, targets, _ in batches:
            yield Batch([torch.from_numpy(images).to(device)], torch.from_numpy(targets).to(device))

    def view(self, number: int, order: EpochOrder | None = None) -> Iterator[Tensors]:
        """See ``BatchSource``; there is one view, the image as it is."""
        del number
        return self._as_they_are(self._train, order or in_order(len(self._train)))

    def validation(self) -> Iterator[Tensors]:
        """See ``BatchSource``."""
        return self._as_they_are(self._validation, in_order(len(self._validation)))

    def _as_they_are(self, split: Split, order: EpochOrder) -> Iterator[Tensors]:
        for images, _, _ in iterate_batches(
            split, order.indices, order.batch_size, self._setting.preprocessing, workers=self._setting.threads
        ):
            yield [torch.from_numpy(images).to(self._setting.device)]


class ActivationBatches:
    """Kept activations for the part behind the frozen one.

    Attributes:
        places: which of the kept tensors that part takes.
    """

    def __init__(
        self,
        cut: Cut,
        places: Sequence[int],
        train: Activations,
        validation: Activations,
        device: torch.device,
        taught: Activations | None = None,
    ) -> None:
        """Prepare one stage.

        Args:
            cut: where it cuts the network.
            places: which of the kept tensors are its frontier, in its order.
            train: activations of the training images.
            validation: activations of the validation images.
            device: where training runs.
            taught: the teacher's logits of every view of the training images; None without a teacher.
        """
        self.part = TrainedPart(cut.train, cut.infer)
        self.views = train.views
        self.places = tuple(places)
        self._train = train
        self._validation = validation
        self._device = device
        self._taught = taught

    def training(self, order: EpochOrder, first: int) -> Iterator[Batch]:
        """See ``BatchSource``; a fresh view of each image is drawn per epoch."""
        views = np.random.default_rng([*order.seed, 1]).integers(0, self._train.views, len(self._train.targets))

        def load(images: Indices) -> Batch:
            tensors = self._train.load(self.places, images, views[images], self._device)
            targets = torch.from_numpy(self._train.targets[images]).to(self._device)
            if self._taught is None:
                return Batch(tensors, targets)
            (taught,) = self._taught.load((0,), images, views[images], self._device)
            return Batch(tensors, targets, taught)

        return load_ahead(load, order.batches(first), workers=1, prefetch=PREFETCH)

    def with_new_views(self, train: NewViews, taught: NewViews | None) -> ActivationBatches:
        """Return the batches of an epoch in which new views stand in for those that are kept.

        Args:
            train: of some training images.
            taught: the teacher's logits of the same views; None without a teacher.
        """
        other = copy.copy(self)
        other._train = replace(self._train, new=train)
        if self._taught is not None:
            other._taught = replace(self._taught, new=taught)
        return other

    def fold(self, trained: Indices, held: Indices) -> ActivationBatches:
        """Return the same stage on some of the training images, int64 ``[n]``, looked at on others of them."""
        fold = copy.copy(self)
        fold._train, fold._validation = self._train.part(trained), self._train.part(held)
        fold._taught = None if self._taught is None else self._taught.part(trained)
        return fold

    def validation(self) -> Iterator[Tensors]:
        """See ``BatchSource``."""
        return self._kept(self._validation, 0, in_order(len(self._validation.targets)))

    def view(self, number: int, order: EpochOrder | None = None) -> Iterator[Tensors]:
        """See ``BatchSource``."""
        return self._kept(self._train, number, order or in_order(len(self._train.targets)))

    def _kept(self, kept: Activations, view: int, order: EpochOrder) -> Iterator[Tensors]:
        def load(images: Indices) -> Tensors:
            return kept.load(self.places, images, np.full_like(images, view), self._device)

        return load_ahead(load, order.batches(0), workers=1, prefetch=PREFETCH)
