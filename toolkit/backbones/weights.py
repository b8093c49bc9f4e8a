"""Weights: fitting them into a network, writing them; ``toolkit.backbones.checkpoints`` reads files of strangers."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from toolkit.backbones.checkpoints import read_safetensors
from toolkit.errors import BackboneError
from toolkit.files import atomic_path

_SHOWN = 4


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
        try:
            safetensors.torch.save_file(state, temporary, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:
            if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(temporary)) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Read what ``save_weights`` wrote into the same architecture; every tensor must be there and fit.

    Raises:
        BackboneError: the file cannot be read, or tensors are missing, unexpected or of another shape; the first few
            are named.
    """
    load_state(model, read_safetensors(path), ignore=(), origin=str(path))


def load_state(model: nn.Module, state: Mapping[str, torch.Tensor], ignore: Sequence[str], origin: str) -> None:
    """Copy a state dict into a network, all of it but the modules named in ``ignore`` (the head).

    Args:
        model: the network; floating-point tensors are converted to its precision.
        state: tensors by dotted name.
        ignore: dotted names of modules that keep what they have.
        origin: where the state comes from, for errors.

    Raises:
        BackboneError: tensors are missing, unexpected, of another shape, or hold what no trained network holds; the
            first few are named.
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
        _require_usable(loaded, own, origin)
        _attach_version(model, state, loaded)
        missing, unexpected = model.load_state_dict(loaded, strict=False)
        problems += [f"{name} is missing" for name in missing if not name.startswith(prefixes)]
        problems += [f"{name} is not a tensor of the model" for name in unexpected]
    if problems:
        raise BackboneError(
            f"the weights in {origin} do not fit {type(model).__name__}: {_first(problems)}. Is it another "
            "architecture?"
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


def _require_usable(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], origin: str) -> None:
    """Raise where a network would compute nothing but not-a-number, which training would blame on its rates."""
    problems = []
    for name, tensor in state.items():
        if name in own and (problem := _unusable(name, tensor, own[name].dtype)) is not None:
            problems.append(f"{name} {problem}")
    if problems:
        raise BackboneError(
            f"the weights in {origin} cannot be used: {_first(problems)}. The file is damaged or quantized, or was "
            "written after the training had diverged: take another checkpoint."
        )


def _unusable(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> str | None:
    """Say what is wrong with a tensor as the network would have it, in its own precision."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        return f"is no plain tensor of numbers ({tensor.dtype}, {tensor.layout})"
    if not dtype.is_floating_point:
        return None
    if not tensor.is_floating_point():
        return (
            f"holds integers ({str(tensor.dtype).removeprefix('torch.')}), as quantized weights do without their scales"
        )
    values = tensor.to(dtype)
    if wrong := int(values.numel() - torch.isfinite(values).sum()):
        what = "is not a number or infinite" if wrong == 1 else "are not a number or infinite"
        return f"has {values.numel():,} values, of which {wrong:,} {what}"
    if name.rpartition(".")[2] == "running_var" and bool((values < 0).any()):
        return "has negative values, and is a variance"
    return None


def _first(problems: Sequence[str]) -> str:
    more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
    return f"{'; '.join(problems[:_SHOWN])}{more}"


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


def _shape(tensor: torch.Tensor) -> str:
    return str(list(tensor.shape))
