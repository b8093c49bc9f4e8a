"""What decides what a network computes, as text to be hashed: weights, settings and code of its modules."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, FunctionType

import torch
from torch import nn

from toolkit.files import sha256_file

_PLAIN = (bool, int, float, str, type(None), torch.dtype)
_NAMED = (FunctionType, BuiltinFunctionType, type)


def sha256_of(parts: Iterable[str | bytes]) -> str:
    """Return the SHA-256 of several texts or contents, such that no two sequences of them are the same."""
    whole = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else part.encode()
        whole.update(len(content).to_bytes(8, "little"))
        whole.update(content)
    return whole.hexdigest()


def weights(network: nn.Module) -> Iterator[str | bytes]:
    """Yield every weight and buffer, with name, type and shape."""
    for name, tensor in sorted(network.state_dict().items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}"
        yield tensor.detach().cpu().contiguous().numpy().tobytes()


def settings(network: nn.Module) -> Iterator[str]:
    """Yield what each module is and how it is set: its class, and its attributes as far as they are plain values.

    Two convolutions with the same weights differ by stride or padding, and two BatchNorms by epsilon, which neither the
    weights nor a traced graph tell.
    """
    for name, module in network.named_modules():
        kind = type(module)
        plain = {key: _text(value) for key, value in vars(module).items() if key != "training" and _is_plain(value)}
        yield f"{name} {kind.__module__}.{kind.__qualname__} {sorted(plain.items())}"


def code(network: nn.Module) -> Iterator[str]:
    """Yield the SHA-256 of the source files that the classes of its modules are in; empty for what has none."""
    for name in sorted({kind.__module__ for module in network.modules() for kind in type(module).__mro__}):
        yield f"{name} {_source_sha256(name)}"


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(each) for each in value)
    return isinstance(value, (*_PLAIN, *_NAMED))


def _text(value: object) -> str:
    if isinstance(value, _NAMED):  # their repr may hold an address
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))})"
    return repr(value)


@functools.cache
def _source_sha256(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    return sha256_file(Path(file)) if file is not None and Path(file).is_file() else ""
