"""Checkpoints as training scripts of all kinds write them: read without running what they hold.

What a file is, its content says, not its name. Of a PyTorch file only tensors and plain containers are taken
(``weights_only``); an object of any other class (an ``argparse.Namespace``, a numpy number, a configuration) is left
out: where its class would be looked up, the reader finds an empty stand-in of this module, so that nothing of the file
is imported or run.
"""

from __future__ import annotations

import pickle
import re
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from toolkit.backbones.asked import require_weights_file
from toolkit.errors import BackboneError, first_line
from toolkit.files import stands_for_another

AVERAGED = (
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "model_ema_state_dict",
    "ema_model",
    "params_ema",
    "ema",
    "averaged_model",
    "teacher",
)
"""Under which names training scripts keep the average of the weights, which is what they evaluate."""
PLAIN = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "student",
    "backbone",
    "encoder",
)
"""Under which names they keep the weights themselves."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
"""What wrappers put before every name (data-parallel training, ``torch.compile``, Lightning...)."""
_ENOUGH = 0.5
"""A state dict or a prefix is the right one where it has at least this share of the network's tensors."""
_DEEPEST = 4
_SHOWN = 8
_MOST_CLASSES = 1000

_HARMLESS_MODULES = frozenset(
    {"argparse", "collections", "copyreg", "dataclasses", "datetime", "decimal", "enum", "fractions", "ipaddress"}
    | {"logging", "numbers", "pathlib", "re", "typing", "uuid", "zoneinfo", "_codecs"}
)
_BUILT_IN = "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple"
_HARMLESS_NAMES = frozenset(
    {"types.SimpleNamespace", "functools.partial", *(f"builtins.{name}" for name in _BUILT_IN.split(" "))}
)
"""Of Python's own library, what configurations are made of. The rest of it (``os``, ``exec``) has no business in a
checkpoint: such a file is refused, though it could do nothing here."""

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
    MemoryError,
    zipfile.BadZipFile,
)
_HEAD_BYTES = 64
_OTHER_KINDS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes it; PyTorch's weights of the same network are needed",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"\x93NUMPY": "one array of numpy, and tensors by name are needed",
    b"GGUF": "a GGUF file of quantized weights, which are not trained",
}
_ADVICE = "Save only the state dict, with torch.save(model.state_dict(), ...) or as safetensors."


@dataclass(frozen=True)
class Checkpoint:
    """A state dict out of a file.

    Attributes:
        tensors: by dotted name.
        found: where in the file they were, e.g. ``state_dict_ema``; empty for the file itself.
        notes: what was chosen, taken off or left out, a line each.
    """

    tensors: Mapping[str, torch.Tensor]
    found: str = ""
    notes: tuple[str, ...] = ()

    @property
    def averaged(self) -> bool:
        """Whether these are the average of a training's weights."""
        return _is_averaged(self.found)


class _Object(list[object]):
    """Stands for an object of a class that is not read; takes whatever the file says of it, and keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _Object:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


class _Table:
    """Stands for a dictionary of a class that is not read: PyTorch fills only plain dictionaries."""

    def __new__(cls, *_: object, **__: object) -> OrderedDict[object, object]:  # type: ignore[misc]  # on purpose
        return OrderedDict()


@dataclass
class _Content:
    """What was read of a PyTorch file, and the classes that were left out."""

    value: Any
    skipped: list[str] = field(default_factory=list)


def read_checkpoint(path: Path, expected: Collection[str] = ()) -> Checkpoint:
    """Read the state dict of a file in the safetensors format or in one of PyTorch's, whatever its name.

    Of several state dicts the averaged one is taken, else the one that has the network's tensors. Prefixes that
    wrappers put before the names are taken off.

    Args:
        path: the file.
        expected: names of the network's tensors, to tell state dicts and prefixes apart.

    Raises:
        BackboneError: there is no such file, it is no checkpoint, or no state dict is found in it.
    """
    require_weights_file(path)
    read = Checkpoint(read_safetensors(path)) if _is_safetensors(path) else _state_dict(_unpickle(path), path, expected)
    tensors, notes = _without_prefixes(read.tensors, expected)
    return Checkpoint(tensors, read.found, (*read.notes, *notes))


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file in the safetensors format.

    Raises:
        BackboneError: it cannot be read, or is not such a file.
    """
    try:
        return dict(safetensors.torch.load_file(path))
    except OSError as error:
        raise BackboneError(f"cannot read the weights {path}: {error.strerror or error}.") from error
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise BackboneError(f"{path} is not a safetensors file ({first_line(error)}).") from error


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file begins as one does: the length of its header, and then the header, which is JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _unpickle(path: Path) -> _Content:
    """Read a PyTorch file; where an object's class is not one of PyTorch's own, let a stand-in take its place."""
    stand_ins: dict[str, type] = {}
    tables = False
    for _ in range(_MOST_CLASSES):
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(_registered(stand_ins, tables)):
                warnings.simplefilter("ignore")  # of pickle protocols; what was read is checked below
                with path.open("rb") as file:  # of a path, PyTorch would look at the suffix
                    return _Content(torch.load(file, map_location="cpu", weights_only=True), list(stand_ins))
        except pickle.UnpicklingError as error:
            if (name := _unknown_class(error)) is not None and name not in stand_ins:
                if _is_suspicious(name):
                    raise BackboneError(f"{path} is refused: reading it would run code ({name}). {_ADVICE}") from error
                stand_ins[name] = _Object
            elif "Can only SETITEM" in str(error) and stand_ins and not tables:
                tables = True
            else:
                raise BackboneError(f"{path} is not a PyTorch checkpoint{_what_it_is(path)}.") from error
        except _UNREADABLE as error:
            what = _what_it_is(path)
            reason = what or f" that can be read ({first_line(error)})"
            raise BackboneError(f"{path} is not a PyTorch checkpoint{reason}.") from error
    raise BackboneError(f"{path} is refused: it names more than {_MOST_CLASSES} classes. {_ADVICE}")


def _registered(stand_ins: Mapping[str, type], tables: bool) -> list[Any]:
    """Return what PyTorch's reader is told of: our own classes under the names that the file gives."""
    return [(_Table if tables and not name.startswith("numpy.") else kind, name) for name, kind in stand_ins.items()]


def _unknown_class(error: BaseException) -> str | None:
    """Return the full name of the class or function that PyTorch's reader has just refused to look up."""
    named = re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", str(error))
    if named is None:
        return None
    # PyTorch leaves out where Python's built-in names are from.
    return named[1] if "." in named[1] else f"builtins.{named[1]}"


def _is_suspicious(name: str) -> bool:
    module = name.partition(".")[0]
    return (
        (module in sys.stdlib_module_names or module == "__builtin__")
        and module not in _HARMLESS_MODULES
        and name not in _HARMLESS_NAMES
    )


def _what_it_is(path: Path) -> str:
    """Say what a file is that PyTorch's reader does not take, where that is plain to see."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return ": the file is empty"
    if (reason := stands_for_another(head)) is not None:
        return f": {reason}"
    if (kind := next((kind for begins, kind in _OTHER_KINDS.items() if head.startswith(begins)), None)) is not None:
        return f": it is {kind}"
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            members = set(archive.getnames())
        if {"pickle", "storages", "tensors"} <= members:
            return ": it is in the format of PyTorch before 0.2; load it with an old PyTorch and save its state dict"
        return ": it is a tar archive; unpack it and give the checkpoint that is in it"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            names = parts.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return ": it is a TorchScript file; save the state dict of the loaded module, and give that"
        if names and all(name.endswith(".npy") for name in names):
            return ": it holds arrays of numpy; save them as tensors by name, as safetensors"
        return "" if any(name.endswith("data.pkl") for name in names) else ": it is a ZIP archive; unpack it first"
    return ""


def _state_dict(content: _Content, path: Path, expected: Collection[str]) -> Checkpoint:
    """Choose among the state dicts of a file."""
    found = dict(_candidates(content.value, "", 0))
    if not found:
        raise BackboneError(_nothing_found(content, path))
    chosen = _choose(found, expected)
    if chosen is None:
        raise BackboneError(
            f"{path} holds several state dicts ({_listing(found)}), and none has a name that is known or the tensors "
            "of this network: save the right one alone, with torch.save(state_dict, ...)."
        )
    notes = []
    others = [place for place in found if place != chosen and not place.startswith(f"{chosen}.")]
    if _is_averaged(chosen):
        rest = f", not {_listing(others)}" if others else ""
        notes.append(f"weights: the averaged ones ({chosen}){rest}")
    elif others:
        notes.append(f"weights: those in {chosen}, not {_listing(others)}")
    if content.skipped:
        notes.append(f"weights: left out what is no tensor ({_listing(content.skipped)}); nothing of it was run")
    return Checkpoint(found[chosen], chosen, tuple(notes))


def _candidates(value: object, place: str, depth: int) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """Yield the state dicts of a file: what holds tensors by name and nothing else."""
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return
    if value and all(isinstance(name, str) and isinstance(each, torch.Tensor) for name, each in value.items()):
        yield place, value
        return
    for name, each in value.items():
        if isinstance(name, str):
            yield from _candidates(each, f"{place}.{name}" if place else name, depth + 1)


def _choose(found: Mapping[str, Mapping[str, torch.Tensor]], expected: Collection[str]) -> str | None:
    """Return the place of the state dict to take.

    Of those that have the network's tensors, or of all where none has: the averaged one, else the one under the most
    usual name, else the only one.
    """
    fitting = [place for place, state in found.items() if expected and _share(state, expected) >= _ENOUGH]
    places = fitting or list(found)
    for name in (*AVERAGED, *PLAIN):
        named = [place for place in places if name in place.split(".")]
        if named:
            return named[0]
    return places[0] if len(places) == 1 else None


def _share(state: Mapping[str, torch.Tensor], expected: Collection[str]) -> float:
    """Return which share of the network's tensors a state dict has, under a prefix or without one."""
    counts = _under_prefixes(state, expected)
    return max(counts.values(), default=0) / len(expected)


def _under_prefixes(state: Mapping[str, torch.Tensor], expected: Collection[str]) -> dict[str, int]:
    """Count for each prefix, the empty one included, how many of the network's names follow it."""
    known = set(expected)
    counts: dict[str, int] = {}
    for name in state:
        parts = name.split(".")
        for position in range(len(parts)):
            if ".".join(parts[position:]) in known:
                prefix = "".join(f"{part}." for part in parts[:position])
                counts[prefix] = counts.get(prefix, 0) + 1
    return counts


def _without_prefixes(
    state: Mapping[str, torch.Tensor], expected: Collection[str]
) -> tuple[Mapping[str, torch.Tensor], list[str]]:
    """Take off what stands before the names; return the rest, and what is to be said."""
    counts = _under_prefixes(state, expected)
    # Of equals, the average of the weights, then the one that comes first in the file.
    best = max(counts, key=lambda prefix: (counts[prefix], _is_averaged(prefix)), default="")
    if best and counts[best] >= _ENOUGH * len(expected) and counts[best] > counts.get("", 0):
        prefix = best
    else:
        prefix = _common_prefix(state, expected)
    if not prefix:
        return state, []
    renamed = {name[len(prefix) :]: each for name, each in state.items() if name.startswith(prefix)}
    notes = [f"weights: the prefix {prefix!r} is taken off the names"]
    others = [name for name in state if not name.startswith(prefix)]
    if others:
        notes.append(f"weights: left out what has another prefix ({_listing(others)})")
    return renamed, notes


def _common_prefix(state: Mapping[str, torch.Tensor], expected: Collection[str]) -> str:
    """Return the known prefixes, one behind the other, that all names have and the network's own names do not."""
    prefix = ""
    while True:
        more = next(
            (
                each
                for each in PREFIXES
                if all(name.startswith(prefix + each) for name in state)
                and not any(name.startswith(each) for name in expected)
            ),
            None,
        )
        if more is None:
            return prefix
        prefix += more


def _is_averaged(dotted: str) -> bool:
    """Tell whether a place in a file, or a prefix of names, is one where the average of the weights is kept."""
    return any(part in AVERAGED for part in dotted.split("."))


def _nothing_found(content: _Content, path: Path) -> str:
    value = content.value
    if not isinstance(value, Mapping) or not value:
        if content.skipped:
            return f"{path} is refused: reading it would run code ({content.skipped[0]}). {_ADVICE}"
        return f"{path} holds {type(value).__name__}, not a state dict (tensors by name). {_ADVICE}"
    if (odd := next((name for name in value if not isinstance(name, str)), None)) is not None:
        return f"{path} is not a state dict: its names are {type(odd).__name__} ({odd!r:.40}), not text. {_ADVICE}"
    if any(isinstance(each, torch.Tensor) for each in value.values()):
        name, other = next((name, each) for name, each in value.items() if not isinstance(each, torch.Tensor))
        if not isinstance(other, _Object):
            return f"{path} is not a state dict: {name!r} is {type(other).__name__}, not a tensor. {_ADVICE}"
    if any(isinstance(each, _Object) for each in value.values()):
        return (
            f"{path} is refused: reading it would run code ({content.skipped[0]}), and without that it is not a state "
            f"dict; it has {_listing(value)}. {_ADVICE}"
        )
    return f"{path} is not a state dict and holds none; it has {_listing(value)}. {_ADVICE}"


def _listing(names: Collection[object]) -> str:
    shown = ", ".join(str(name) if name != "" else "the file itself" for name in list(names)[:_SHOWN])
    return f"{shown}..." if len(names) > _SHOWN else shown
