"""The division of a network into the blocks that a practitioner would freeze and unfreeze.

The modules below the root are walked in order; containers that merely hold the layers in a row (``features``,
``layers``, ``encoder``...) are opened. What is made of several layers (a stage, a residual block, an Inception module,
a Fire module) is a block of its own; so is a run of plain convolutions up to the next pooling, and each hidden linear
layer of a classifier. The rest joins one of these: normalisation what precedes it, the step that scales down between
two stages the stage after it (or the one that bears its number: DenseNet's ``transition1``), a parameter such as the
class token what it stands beside, dropout what precedes it.

timm's models bring rules of their own (``group_matcher``), which are used for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from toolkit.backbones.backbone import Block

_OPENED = frozenset(
    {"features", "layers", "blocks", "stages", "dense_stages", "encoder", "trunk_output", "classifier", "heads"}
)
_NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_POOLINGS = (_MaxPoolNd, _AvgPoolNd, _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)
_RANDOM = ("Dropout", "StochasticDepth", "DropPath")


class _Kind(Enum):
    LOOSE = auto()
    """A parameter or buffer that is in no module below the containers."""
    NOTHING = auto()
    """No tensors: an activation, dropout."""
    POOLING = auto()
    NORMALISATION = auto()
    """Normalisation layers, or buffers only (a table of positions)."""
    CONVOLUTION = auto()
    """One convolution, with or without normalisation and activation."""
    LINEAR = auto()
    COMPOSITE = auto()


@dataclass(frozen=True)
class _Unit:
    name: str
    module: nn.Module | None
    kind: _Kind
    normalises: bool = False


@dataclass
class _Draft:
    units: list[_Unit] = field(default_factory=list)

    @property
    def main(self) -> _Unit | None:
        return next((unit for unit in self.units if unit.kind is _Kind.COMPOSITE), None)

    def finish(self, first: bool) -> Block:
        """Name the block."""
        relevant = [
            unit for unit in self.units if unit.module is None or _has_tensors(unit.module) or _is_random(unit.module)
        ]
        return Block(
            name=self.main.name
            if self.main
            else _joint_name([unit for unit in relevant if unit.kind not in (_Kind.NOTHING, _Kind.POOLING)], first),
            modules=tuple(unit.name for unit in relevant if unit.module is not None),
            parameters=tuple(unit.name for unit in relevant if unit.module is None),
        )


def divide(model: nn.Module, head: Sequence[str]) -> tuple[Block, ...]:
    """Divide a network by the rules above.

    Args:
        model: the network; its modules are registered in the order in which they act.
        head: dotted names of the layers that belong to no block.
    """
    units = [unit for unit in _units(model, "", head) if unit.name not in head]
    drafts: list[_Draft] = []
    waiting: list[_Unit] = []
    run_is_open = False
    for position, unit in enumerate(units):
        current = drafts[-1] if drafts else None
        if unit.kind in (_Kind.LOOSE, _Kind.NOTHING, _Kind.POOLING, _Kind.NORMALISATION):
            (current.units if current else waiting).append(unit)
            run_is_open = run_is_open and unit.kind is not _Kind.POOLING
        elif current and current.main and _is_transition(unit, units[position + 1 :]):
            (current.units if _number(unit) == _number(current.main) else waiting).append(unit)
        elif current and unit.kind is _Kind.CONVOLUTION and run_is_open:
            current.units.append(unit)
        else:
            drafts.append(_Draft([*waiting, unit]))
            waiting = []
            run_is_open = unit.kind is _Kind.CONVOLUTION
    return tuple(draft.finish(position == 0) for position, draft in enumerate(drafts))


def divide_by_matcher(model: nn.Module, head: Sequence[str]) -> tuple[Block, ...]:
    """Divide a timm model by its own ``group_matcher``."""
    from timm.models._manipulate import group_with_matcher  # a torchvision model does not wait for timm

    outside = [name for name in _tensor_names(model, "") if not name.startswith(tuple(f"{layer}." for layer in head))]
    matcher = cast(Callable[..., dict[str, object]], model.group_matcher)
    try:
        rules = matcher(coarse=True)
    except (AssertionError, NotImplementedError):  # how timm says that a model has only its fine division
        return divide(model, head)
    group_of: dict[str, int] = group_with_matcher(iter([(name, name) for name in outside]), rules, reverse=True)
    if len(group_of) < len(outside):
        return divide(model, head)
    drafts: dict[int, _Draft] = {group: _Draft() for group in sorted(set(group_of.values()))}
    _gather(model, "", group_of, set(head), drafts, [])
    *blocks, last = drafts.values()
    if blocks and all(unit.kind in (_Kind.LOOSE, _Kind.NOTHING, _Kind.NORMALISATION) for unit in last.units):
        blocks[-1].units.extend(last.units)
    else:
        blocks.append(last)
    return tuple(draft.finish(position == 0) for position, draft in enumerate(blocks))


def _units(module: nn.Module, prefix: str, head: Sequence[str]) -> Iterator[_Unit]:
    yield from _loose(module, prefix)
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        if any(layer.startswith(f"{full}.") for layer in head) or (
            name in _OPENED and next(child.children(), None) is not None
        ):
            yield from _units(child, f"{full}.", head)
        else:
            yield _unit(full, child)


def _tensor_names(module: nn.Module, prefix: str) -> list[str]:
    """Return the names of all parameters and buffers, also each name of one that has several."""
    both = (
        module.named_parameters(prefix, remove_duplicate=False),
        module.named_buffers(prefix, remove_duplicate=False),
    )
    return [name for tensors in both for name, _ in tensors]


def _loose(module: nn.Module, prefix: str) -> Iterator[_Unit]:
    for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        yield _Unit(f"{prefix}{name}", None, _Kind.LOOSE)


def _gather(
    module: nn.Module, prefix: str, group_of: dict[str, int], head: set[str], drafts: dict[int, _Draft], met: list[int]
) -> None:
    """Give each group the largest modules that lie wholly inside it.

    ``met`` collects the groups in the order of the walk.
    """
    for unit in _loose(module, prefix):
        drafts[group_of[unit.name]].units.append(unit)
    for name, child in module.named_children():
        full = f"{prefix}{name}"
        inside = _tensor_names(child, full)
        groups = {group_of.get(tensor) for tensor in inside}
        if full in head or (not inside and not (met and _is_random(child))):
            continue
        if len(groups) > 1 or None in groups:
            _gather(child, f"{full}.", group_of, head, drafts, met)
            continue
        if inside:
            met.append(group_of[inside[0]])
        drafts[met[-1]].units.append(_unit(full, child))


def _unit(name: str, module: nn.Module) -> _Unit:
    normalises = any(isinstance(part, _NORMALISATIONS) for part in module.modules())
    return _Unit(name, module, _kind(module), normalises)


def _kind(module: nn.Module) -> _Kind:
    if not _has_tensors(module):
        return _Kind.POOLING if any(isinstance(part, _POOLINGS) for part in module.modules()) else _Kind.NOTHING
    weighted = [
        part
        for part in module.modules()
        if not isinstance(part, _NORMALISATIONS) and next(part.parameters(recurse=False), None) is not None
    ]
    if not weighted:
        return _Kind.NORMALISATION
    if module is weighted[0] and isinstance(module, nn.Linear):
        return _Kind.LINEAR
    if len(weighted) == 1 and isinstance(weighted[0], nn.Conv2d | nn.Linear):
        return _Kind.CONVOLUTION
    return _Kind.COMPOSITE


def _is_transition(unit: _Unit, following: Sequence[_Unit]) -> bool:
    """Tell whether a normalised single layer between two composite units scales down from one stage to the next."""
    after = next((other for other in following if other.kind not in (_Kind.NOTHING, _Kind.POOLING)), None)
    return unit.kind is _Kind.CONVOLUTION and unit.normalises and after is not None and after.kind is _Kind.COMPOSITE


def _has_tensors(module: nn.Module, recurse: bool = True) -> bool:
    return next(module.parameters(recurse), None) is not None or next(module.buffers(recurse), None) is not None


def _is_random(module: nn.Module) -> bool:
    return any(isinstance(part, _DropoutNd) or type(part).__name__ in _RANDOM for part in module.modules())


def _number(unit: _Unit) -> str | None:
    digits = re.search(r"\d+$", unit.name)
    return digits[0] if digits else None


def _joint_name(units: Sequence[_Unit], first: bool) -> str:
    names = [unit.name for unit in units]
    if len(names) == 1:
        return names[0]
    parents = {name.rpartition(".")[0] for name in names}
    leaves = [name.rpartition(".")[2] for name in names]
    if len(parents) == 1 and all(leaf.isdigit() for leaf in leaves):
        return f"{names[0]}-{leaves[-1]}"
    return (
        "stem"
        if first
        else "+".join(name for unit, name in zip(units, names, strict=True) if unit.kind is not _Kind.NORMALISATION)
    )
