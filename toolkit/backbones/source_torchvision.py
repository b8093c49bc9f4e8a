"""torchvision's classification models.

Inception v3 and GoogLeNet are built without their auxiliary heads. Those branch off in the middle of the network and
act, through their loss, only on the layers before; they help to train from scratch, have no part in the answer and are
never shipped. Without them the networks return one tensor in training mode too. Their tensors in a pretrained
checkpoint are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from toolkit.backbones.backbone import IMAGENET_NORMALIZATION, Defaults
from toolkit.backbones.checkpoints import read_checkpoint
from toolkit.backbones.surgery import find_head
from toolkit.backbones.weights import load_state
from toolkit.bundle.manifest import Normalization
from toolkit.download import Digest, fetch, probe
from toolkit.progress import Reporter

_WITH_AUXILIARY_HEADS = ("inception_v3", "googlenet")
_AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")
_HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_MAXVIT_STEP = 224
"""MaxViT halves the side five times and then divides it into windows of 7: 32 * 7."""


@cache
def names() -> Sequence[str]:
    """Return the names of all classification models."""
    return tuple(torchvision.models.list_models(module=torchvision.models))


def has(name: str) -> bool:
    """Tell whether torchvision has such a classification model."""
    return name in names()


def defaults(name: str) -> Defaults:
    """Return how the default weights were evaluated.

    With pretrained weights torchvision gives Inception v3 and GoogLeNet ``transform_input``, which undoes the ImageNet
    normalisation inside the network and applies mean and standard deviation 0.5 instead. Here the pixels are normalised
    so in the first place: the same arithmetic, without the detour in every exported graph.
    """
    weights = _default_weights(name)
    if weights is None:
        return Defaults()
    preset = weights.transforms()
    own = Normalization(mean=tuple(preset.mean), std=tuple(preset.std))
    return Defaults(
        normalization=_HALF if name in _WITH_AUXILIARY_HEADS and own == IMAGENET_NORMALIZATION else own,
        image_size=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        crop_fraction=min(preset.crop_size[0] / preset.resize_size[0], 1.0),
        # Only some say it; of the others torchvision says that terms of the training images may apply.
        license=weights.meta.get("license"),
    )


def build(name: str, classes: int, image_size: int) -> nn.Module:
    """Build the architecture with torchvision's own random initialisation."""
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name in _WITH_AUXILIARY_HEADS:
        options |= {"aux_logits": False, "init_weights": True, "transform_input": False}
    elif name.startswith("vit_"):
        options |= {"image_size": image_size}
    elif name.startswith("maxvit_"):
        options |= {"input_size": (image_size, image_size)}
    model: nn.Module = torchvision.models.get_model(name, **options)
    return model


def size_step(name: str) -> int:
    """Return the patch size of a ViT, 224 for MaxViT, and 1 for networks that take any size above their smallest."""
    if name.startswith("maxvit_"):
        return _MAXVIT_STEP
    patch = re.fullmatch(r"vit_[a-z]+_(\d+)", name)
    return int(patch[1]) if patch else 1


def pretrained(name: str, classes: int, image_size: int, reporter: Reporter) -> tuple[nn.Module, str]:
    """Fetch the default weights into PyTorch's own cache and load them, except for the head.

    Raises:
        DownloadError: the file cannot be fetched.
        BackboneError: the file does not fit.
    """
    weights = _default_weights(name)
    url = _url(name)
    path = fetch(url, _cached(url), digest=_digest(url), reporter=reporter)
    model = build(name, classes, image_size)
    load_state(model, adapt(model, read_checkpoint(path).tensors, image_size), find_head(model), str(path))
    return model, f"ImageNet-1k (torchvision {weights.name}, {path.name})"


def adapt(model: nn.Module, state: Mapping[str, torch.Tensor], image_size: int) -> Mapping[str, torch.Tensor]:
    """Drop auxiliary heads, renew DenseNet's old names, and fit a ViT's position embeddings to another image size."""
    if isinstance(model, torchvision.models.DenseNet):
        # Checkpoints from before dots in module names were forbidden say "denselayer1.norm.1.weight".
        return {
            re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", name): tensor
            for name, tensor in state.items()
        }
    if isinstance(model, torchvision.models.Inception3 | torchvision.models.GoogLeNet):
        return {name: tensor for name, tensor in state.items() if not name.startswith(_AUXILIARY_HEADS)}
    if isinstance(model, torchvision.models.VisionTransformer) and "encoder.pos_embedding" in state:
        changed: Mapping[str, torch.Tensor] = interpolate_embeddings(image_size, model.patch_size, dict(state))
        return changed
    return state


def unavailable(name: str) -> str | None:
    """Say why the default weights cannot be had: they are neither on disk nor does their host answer."""
    url = _url(name)
    return None if _digest(url).matches(_cached(url)) else probe(url)


def _default_weights(name: str) -> Any:
    return getattr(torchvision.models.get_model_weights(name), "DEFAULT", None)


def _url(name: str) -> str:
    return str(_default_weights(name).url)


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _digest(url: str) -> Digest:
    """Return the digest that PyTorch's file names carry: the first digits of the SHA-256 before the suffix."""
    match = re.search(r"-([0-9a-f]{8,})\.[a-z]+$", url)
    if match is None:
        raise ValueError(f"torchvision's file name {url!r} carries no digest")
    return Digest("sha256", match[1])
