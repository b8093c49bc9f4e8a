"""The families of timm, the model and image size that stand for each, and a model of each kind of head."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from toolkit.backbones import takes_image_size
from toolkit.backbones.meta import on_meta

SIDES = (32, 48, 56, 64, 75, 96, 112, 128, 160, 192, 224)
"""Sides in pixels that are tried before a network's own, the smallest first."""
EXAMPLES = "test_"
"""How names of timm's own test models start; nobody fine-tunes them."""
HEADS = {
    "one layer on the mean": "resnet18",
    "two layers, averaged (distilled)": "deit_tiny_distilled_patch16_224",
    "two normalised layers, averaged (distilled)": "levit_128s",
    "one layer on the class token": "vit_tiny_patch16_224",
    "one layer behind class attention": "cait_xxs24_224",
    "one layer behind attention pooling of tokens": "test_vit3",
    "one layer behind attention pooling of a map": "resnet50_clip",
    "one layer behind a hidden layer": "mobilenetv3_small_050",
    "a 1 x 1 convolution": "dla46x_c",
    "no classifier": "mobilenetv5_300m_enc",
}
"""A model of each kind of head."""
FORMATS = ("onnx", "torchscript")
"""In which those are exported."""


def families() -> dict[str, list[str]]:
    """Return the models of each family: of each file of ``timm.models``."""
    import timm
    from timm.models import _registry

    of: dict[str, list[str]] = {}
    for name in timm.list_models():
        if not name.startswith(EXAMPLES):
            of.setdefault(_registry._model_to_module[name], []).append(name)
    return dict(sorted(of.items()))


def smallest(names: Sequence[str]) -> str:
    """Return the model with the fewest parameters."""
    import timm

    def parameters(name: str) -> int:
        return sum(each.numel() for each in on_meta(functools.partial(timm.create_model, name)).parameters())

    return min(names, key=parameters)


def smallest_side(name: str) -> int | None:
    """Return the smallest side that a network takes; None for its own."""
    return next((side for side in SIDES if takes_image_size(f"timm:{name}", side)), None)
