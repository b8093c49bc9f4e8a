"""The list of backbones with their size and cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from toolkit.backbones.asked import SOURCES
from toolkit.backbones.meta import count_gmacs, meta_model
from toolkit.backbones.registry import source
from toolkit.backbones.surgery import find_blocks, find_head

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class BackboneSummary:
    """One row of the list.

    Attributes:
        name: canonical name.
        parameters: number of parameters, the ImageNet head included, auxiliary heads not.
        gmacs: billions of multiply-adds of convolutions and matrix products for one image of ``image_size``;
            not-a-number where the network cannot be counted.
        image_size: side of the network's own input in pixels.
        default_cut: name of the last block: what is trained beside the head when one block is unfrozen.
    """

    name: str
    parameters: int
    gmacs: float
    image_size: int
    default_cut: str


def list_backbones(pattern: str | None) -> Iterator[BackboneSummary]:
    """Yield the backbones whose names match, one after the other; each takes some tenths of a second and no memory.

    Args:
        pattern: as in a shell (``resnet*``, ``timm:vit_*``), with or without the prefix of a source; without one, timm
            is looked at where torchvision has no match. None means all of torchvision.
    """
    for prefix, name in _matching(pattern):
        yield summarize(prefix, name)


def summarize(prefix: str, name: str) -> BackboneSummary:
    """Describe one model of one source."""
    models = source(prefix)
    size = models.defaults(name).image_size
    model = meta_model(models, name, IMAGENET_CLASSES, size)
    return BackboneSummary(
        name=f"{prefix}:{name}",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=count_gmacs(model, size),
        image_size=size,
        default_cut=find_blocks(model, find_head(model))[-1].name,
    )


def _matching(pattern: str | None) -> list[tuple[str, str]]:
    if pattern is None:
        return [("torchvision", name) for name in source("torchvision").names()]
    prefix, colon, rest = pattern.partition(":")
    if colon:
        return (
            [(prefix, name) for name in source(prefix).names() if fnmatchcase(name, rest)] if prefix in SOURCES else []
        )
    matches_by_source = (
        [(candidate, name) for name in source(candidate).names() if fnmatchcase(name, pattern)] for candidate in SOURCES
    )
    return next((matches for matches in matches_by_source if matches), [])
