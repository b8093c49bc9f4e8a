"""A backbone with its new head, and what a source of models provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from toolkit.bundle.manifest import Normalization
from toolkit.progress import Reporter

IMAGENET_NORMALIZATION = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Block:
    """A stretch of the network that is frozen or trained as one.

    Attributes:
        name: what a person calls it: the dotted name of its main module (``layer4``, ``features.denseblock4``), a range
            of layers in a sequence (``features.24-28``), or ``stem``.
        modules: dotted names of its modules; no module lies inside another.
        parameters: dotted names of parameters and buffers that belong to the block but to none of its modules, such as
            ``class_token``.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backbone:
    """A network with a new head.

    Attributes:
        name: canonical name, ``torchvision:resnet18`` or ``timm:tf_efficientnet_lite0``.
        model: float32 ``[N, 3, H, W]`` in, one float32 tensor ``[N, C]`` out, in training and in inference mode.
        head: dotted names of the head's layers, usually one.
        blocks: the rest in order from input to output; each parameter and buffer outside the head belongs to exactly
            one.
        weights: where the weights came from, for a person.
        weights_license: under which terms, as whoever published them says; None where nobody says it.
        normalization: what the weights expect.
        image_size: side of the square input in pixels: what was asked for, or the backbone's own.
        interpolation: resampling filter with which the weights were evaluated.
        crop_fraction: side of the centre crop over the side that the image was scaled to, when the weights were
            evaluated.
    """

    name: str
    model: nn.Module
    head: tuple[str, ...]
    blocks: tuple[Block, ...]
    weights: str
    weights_license: str | None
    normalization: Normalization
    image_size: int
    interpolation: str
    crop_fraction: float


@dataclass(frozen=True)
class Defaults:
    """The pretrained network: how images reach it, and its terms (the fields are those of ``Backbone``)."""

    normalization: Normalization = IMAGENET_NORMALIZATION
    image_size: int = 224
    interpolation: str = "bilinear"
    crop_fraction: float = 0.875
    license: str | None = None
    """Of the default weights, as their publisher names it; None where it does not."""


class Source(Protocol):
    """What a module that provides models implements, as plain functions.

    ``name`` is the name without the source's prefix.
    """

    def names(self) -> Sequence[str]:
        """Return the names of all models."""

    def has(self, name: str) -> bool:
        """Tell whether there is such a model."""

    def defaults(self, name: str) -> Defaults:
        """Return how images reach the pretrained network, and the licence of its weights."""

    def build(self, name: str, classes: int, image_size: int) -> nn.Module:
        """Build the architecture with the source's own random initialisation, drawn from PyTorch's global generator."""

    def size_step(self, name: str) -> int:
        """Return the number that an image size must be a multiple of; 1 where any will do."""

    def pretrained(self, name: str, classes: int, image_size: int, reporter: Reporter) -> tuple[nn.Module, str]:
        """Build the architecture with its default weights, except for the head; also return where they came from."""

    def adapt(self, model: nn.Module, state: Mapping[str, torch.Tensor], image_size: int) -> Mapping[str, torch.Tensor]:
        """Bring a checkpoint of this architecture into the form that ``model`` has here."""

    def unavailable(self, name: str) -> str | None:
        """Say in one phrase why the default weights cannot be had now; None if they can."""
