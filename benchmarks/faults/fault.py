"""What a fault is: a way to break a good artifact that has a name.

A fault is written as a function under one of the decorators below, or of those in ``around`` and ``manifest``. The
function does the damage; the record that takes its place has its name, with hyphens, and the first line of its
docstring for the table. ``catalogue`` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from toolkit.backbones.deployable import Deployable

NetworkDamage = Callable[[Deployable], nn.Module]
FileDamage = Callable[[Path], None]


class NotApplicableError(Exception):
    """A network or a bundle has nothing that a fault could break; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to break a good artifact."""

    name: str
    what: str
    """What is wrong, for the table."""
    format: str = "onnx"
    """Format of the artifact that is broken."""
    alone: bool = False
    """Judged by its bundle alone, without run and PyTorch: both ``toolkit verify BUNDLE`` and ``toolkit selftest`` must
    fail it."""


@dataclass(frozen=True, kw_only=True)
class NetworkFault(Fault):
    """A fault of the network, planted before it is exported: a broken exporter, or a wrong line of glue code."""

    apply: NetworkDamage
    """Takes a network that may be changed in place, returns the broken one."""
    fixed_batch: int | None = None
    """Exported with this batch size instead of a dynamic one."""
    unmeasured: str = ""
    """Where the fault shows, if not in what PyTorch computes with the broken network."""


@dataclass(frozen=True, kw_only=True)
class FileFault(Fault):
    """A fault of the bundle, planted after the export."""

    apply: Callable[[Path, Path], None]
    """Changes files of the first bundle; the second, of another training of the same backbone, is only read."""
    sealed: bool = False
    """Whether the manifest is brought up to date afterwards, as if the fault had happened before it was written."""


def name_of(damage: Callable[..., object]) -> str:
    """Return the name of the fault whose damage a function does."""
    return damage.__name__.replace("_", "-")


def what_of(damage: Callable[..., object]) -> str:
    """Return what is wrong after the damage of a function: the first line of its docstring, as a cell of a table."""
    line = (damage.__doc__ or "").partition("\n")[0].removesuffix(".")
    first_word = line.partition(" ")[0]
    is_name = first_word[1:] != first_word[1:].lower()  # such as ImageNet
    return line if is_name else line[:1].lower() + line[1:]


def network_fault(
    *, format: str = "onnx", fixed_batch: int | None = None, unmeasured: str = "", alone: bool = False
) -> Callable[[NetworkDamage], NetworkFault]:
    """Make a fault of a function that breaks a network."""
    return lambda damage: NetworkFault(
        name=name_of(damage),
        what=what_of(damage),
        format=format,
        apply=damage,
        fixed_batch=fixed_batch,
        unmeasured=unmeasured,
        alone=alone,
    )


def file_fault(*, format: str = "onnx", sealed: bool = False, alone: bool = False) -> Callable[[FileDamage], FileFault]:
    """Make a fault of a function that breaks a bundle."""
    return lambda damage: FileFault(
        name=name_of(damage),
        what=what_of(damage),
        format=format,
        apply=lambda bundle, _: damage(bundle),
        sealed=sealed,
        alone=alone,
    )
