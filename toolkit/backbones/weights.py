"""Checkpoints: reading them safely, fitting them into a network, writing them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from toolkit.backbones.asked import require_weights_file
from toolkit.errors import BackboneError, first_line
from toolkit.files import atomic_path

_WRAPPERS = ("state_dict", "model")
_SHOWN = 4
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    UnicodeDecodeError,
    zipfile.BadZipFile,
)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write all parameters and persistent buffers as safetensors, atomically.

    Tensors are written from the CPU in the plain memory order, whatever the network uses. One that has two names is
    written under both, so that every name is found when it is read.

    Raises:
        FileWriteError: the file cannot be written.
    """
    state: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory, also where one is a part of the other.
        storage = plain.untyped_storage().data_ptr()
        state[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"format": "pt"})


def load_weights(model: nn.Module, path: Path) -> None:
    """Read what ``save_weights`` wrote into the same architecture; every tensor must be there and fit.

    Raises:
        BackboneError: the file cannot be read, or tensors are missing, unexpected or of another shape; the first few
            are named.
    """
    load_state(model, _read_safetensors(path), ignore=(), origin=str(path))


def read_checkpoint(path: Path) -> Mapping[str, torch.Tensor]:
    """Read a state dict from ``.safetensors``, or from ``.pth`` or ``.pt`` without running what the file holds.

    The wrappers ``{"state_dict": ...}`` and ``{"model": ...}`` and the prefix ``module.`` of data-parallel training are
    taken off.

    Raises:
        BackboneError: the file is missing, is no checkpoint, or holds more than tensors and plain containers.
    """
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise BackboneError(
            f"weights {str(path)!r} are not usable: give 'default', 'none', or a file ending in .safetensors, .pth "
            "or .pt."
        )
    require_weights_file(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _tensors(_read_pickle(path), path)


def load_state(model: nn.Module, state: Mapping[str, torch.Tensor], ignore: Sequence[str], origin: str) -> None:
    """Copy a state dict into a network, all of it but the modules named in ``ignore`` (the head).

    Args:
        model: the network; floating-point tensors are converted to its precision.
        state: tensors by dotted name.
        ignore: dotted names of modules that keep what they have.
        origin: where the state comes from, for errors.

    Raises:
        BackboneError: tensors are missing, unexpected or of another shape; the first few are named.
    """
    prefixes = tuple(f"{name}." for name in ignore)
    loaded: OrderedDict[str, torch.Tensor] = OrderedDict(
        (name, tensor) for name, tensor in state.items() if not name.startswith(prefixes)
    )
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(prefixes)}
    problems = [
        f"{name} is {_shape(loaded[name])}, the model's is {_shape(own[name])}"
        for name in own
        if name in loaded and loaded[name].shape != own[name].shape
    ]
    if not problems:
        _attach_version(model, state, loaded)
        missing, unexpected = model.load_state_dict(loaded, strict=False)
        problems += [f"{name} is missing" for name in missing if not name.startswith(prefixes)]
        problems += [f"{name} is not a tensor of the model" for name in unexpected]
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise BackboneError(
            f"the weights in {origin} do not fit {type(model).__name__}: {'; '.join(problems[:_SHOWN])}{more}. Is it "
            "another architecture?"
        )


def load_by_order(model: nn.Module, state: Mapping[str, torch.Tensor], ignore: Sequence[str], origin: str) -> None:
    """Copy a state dict whose tensors come in the network's order under other names.

    Raises:
        BackboneError: the number of tensors, a last name (``weight``, ``running_mean``...) or a shape outside
            ``ignore`` differs.
    """
    own = model.state_dict()
    prefixes = tuple(f"{name}." for name in ignore)
    if len(own) != len(state):
        raise BackboneError(
            f"{origin} holds {len(state)} tensors, {type(model).__name__} has {len(own)}: it is another architecture."
        )
    renamed: OrderedDict[str, torch.Tensor] = OrderedDict()
    for (name, mine), (theirs, tensor) in zip(own.items(), state.items(), strict=True):
        same_kind = name.rpartition(".")[2] == theirs.rpartition(".")[2]
        if not same_kind or (mine.shape != tensor.shape and not name.startswith(prefixes)):
            raise BackboneError(
                f"{origin} does not fit {type(model).__name__}: {theirs} {_shape(tensor)} stands where {name} "
                f"{_shape(mine)} is expected."
            )
        renamed[name] = tensor
    load_state(model, renamed, ignore, origin)


def _attach_version(
    model: nn.Module, state: Mapping[str, torch.Tensor], loaded: OrderedDict[str, torch.Tensor]
) -> None:
    """Keep the versions that a ``.pth`` records; where none are recorded, say that the root module is the present one.

    torchvision's MNASNet refuses a state dict without its version, and safetensors has no room for one. Versions of the
    inner modules are left open, so that layers bring old names up to date and BatchNorm fills in a missing
    ``num_batches_tracked``.
    """
    recorded = getattr(state, "_metadata", None)
    loaded._metadata = recorded if recorded is not None else OrderedDict({"": {"version": model._version}})  # type: ignore[attr-defined]  # nn.Module reads this attribute


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return dict(safetensors.torch.load_file(path))
    except OSError as error:
        raise BackboneError(f"cannot read the weights {path}: {error.strerror or error}.") from error
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise BackboneError(f"{path} is not a safetensors file ({first_line(error)}).") from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what was read is checked below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"(?:Unsupported global: GLOBAL|GLOBAL) ([\w.]+)", str(error))
        if forbidden:
            raise BackboneError(
                f"{path} is refused: reading it would run code ({forbidden[1]}). Save only the state dict, with "
                "torch.save(model.state_dict(), ...) "
                "or as safetensors."
            ) from error
        raise BackboneError(f"{path} is not a PyTorch checkpoint.") from error
    except _UNREADABLE as error:
        raise BackboneError(f"{path} is not a PyTorch checkpoint that can be read ({first_line(error)}).") from error


def _tensors(content: Any, path: Path) -> Mapping[str, torch.Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise BackboneError(f"{path} holds {type(content).__name__}, not a state dict (tensors by name).")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise BackboneError(f"{path} is not a state dict: {name!r} is {type(value).__name__}, not a tensor.")
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return content


def _shape(tensor: torch.Tensor) -> str:
    return str(list(tensor.shape))
