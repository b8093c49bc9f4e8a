"""Surgery on any classifier: a new head, the division into blocks, freezing and unfreezing.

How a network is divided into blocks stands in ``toolkit.backbones.division``.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from toolkit.backbones.backbone import Backbone, Block
from toolkit.backbones.division import divide, divide_by_matcher
from toolkit.errors import BackboneError


@dataclass(frozen=True)
class TrainableParts:
    """What ``set_trainable`` left to train.

    Attributes:
        head: the head's parameters.
        backbone: the parameters of the unfrozen blocks, without the head's.
        names: names of the trained blocks from input to output, then those of the head's layers.
        modules: dotted names of the modules that are in training mode while training.
        train_bn: whether normalisation layers with running statistics inside them are too.
        blocks: ``backbone``, block by block in the order of ``names``.
    """

    head: list[nn.Parameter]
    backbone: list[nn.Parameter]
    names: tuple[str, ...]
    modules: tuple[str, ...]
    train_bn: bool = False
    blocks: tuple[list[nn.Parameter], ...] = ()


def find_head(model: nn.Module) -> tuple[str, ...]:
    """Return the dotted names of the layers that give the class scores.

    What timm declares, else the last linear or convolutional layer.

    Raises:
        BackboneError: there is none.
    """
    declared = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if declared:
        names = (declared,) if isinstance(declared, str) else tuple(declared)
        present = tuple(name for name in names if name in dict(model.named_modules()))
    else:
        layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        present = tuple(layers[-1:])
    if not present or not all(isinstance(model.get_submodule(name), nn.Linear | nn.Conv2d) for name in present):
        raise BackboneError(
            f"{type(model).__name__} has no linear or convolutional layer at its end that a new head could replace: "
            "choose another backbone."
        )
    return present


def replace_head(model: nn.Module, head: Sequence[str], classes: int, seed: int) -> None:
    """Put a layer with ``classes`` outputs in place of each of the head's layers.

    The new layer is of the same kind, with a bias where the old one had one, and starts as PyTorch starts such a layer
    (weights and bias uniform within one over the root of the number of inputs), drawn from ``seed`` alone.
    """
    with seeded(seed):
        for name in head:
            old = model.get_submodule(name)
            model.set_submodule(name, _like(old, classes))


def find_blocks(model: nn.Module, head: Sequence[str]) -> tuple[Block, ...]:
    """Divide a network, except for its head, into blocks from input to output.

    Each parameter and buffer belongs to exactly one.
    """
    if callable(getattr(model, "group_matcher", None)):
        return divide_by_matcher(model, head)
    return divide(model, head)


def select_blocks(backbone: Backbone, unfreeze: int | Sequence[str]) -> tuple[Block, ...]:
    """Return what is to be trained beside the head.

    Args:
        backbone: the network.
        unfreeze: how many of the last blocks, or names of blocks or of any modules (``layer4``, ``layer4.1``,
            ``features.6``). A name that is both means the block, which may hold more than the module (its final
            normalisation, for example).

    Raises:
        BackboneError: there are fewer blocks, or there is no such name, or nothing to train under it.
    """
    if isinstance(unfreeze, int):
        count = len(backbone.blocks)
        if not 0 <= unfreeze <= count:
            raise BackboneError(
                f"cannot unfreeze {unfreeze} blocks: {backbone.name} has {count} ({_listing(backbone)}). Give 0 to "
                f"{count}, or names."
            )
        return backbone.blocks[count - unfreeze :]
    by_name = {block.name: block for block in backbone.blocks}
    return tuple(by_name.get(name) or _module_block(backbone, name) for name in dict.fromkeys(unfreeze))


def set_trainable(backbone: Backbone, unfreeze: int | Sequence[str], *, train_bn: bool = False) -> TrainableParts:
    """Freeze everything but the head and the chosen blocks, and set the modes for training.

    Args:
        backbone: changed in place; what an earlier call left has no effect.
        unfreeze: see ``select_blocks``.
        train_bn: let normalisation layers of the chosen blocks use and update batch statistics. Their weights are
            trained either way.

    Raises:
        BackboneError: see ``select_blocks``.
    """
    chosen = select_blocks(backbone, unfreeze)
    model = backbone.model
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    head = _unique(model.get_submodule(name).parameters() for name in backbone.head)
    in_head = {id(parameter) for parameter in head}
    own = dict(model.named_parameters())
    inside = _unique(_block_parameters(model, own, block) for block in chosen)
    rest = [parameter for parameter in inside if id(parameter) not in in_head]
    for parameter in [*head, *rest]:
        parameter.requires_grad_(True)
    parts = TrainableParts(
        head=head,
        backbone=rest,
        names=(*(block.name for block in chosen), *backbone.head),
        modules=(*(name for block in chosen for name in block.modules), *backbone.head),
        train_bn=train_bn,
        blocks=_by_block(model, chosen, in_head),
    )
    apply_modes(backbone, parts)
    return parts


def apply_modes(backbone: Backbone, parts: TrainableParts) -> None:
    """Put the trained modules, and only those, into training mode (dropout acts); call it again after an evaluation.

    Layers with running statistics outside of the chosen blocks are always in inference mode, those inside only with
    ``train_bn``.
    """
    backbone.model.eval()
    for name in parts.modules:
        backbone.model.get_submodule(name).train()
    if not parts.train_bn:
        for module in backbone.model.modules():
            if has_running_statistics(module):
                module.eval()


def has_running_statistics(module: nn.Module) -> bool:
    """Tell whether a layer normalises with statistics that it updates in training mode.

    All BatchNorm layers, and timm's variants.
    """
    return isinstance(module, _NormBase) or "running_mean" in module._buffers or "running_var" in module._buffers


def head_layer(backbone: Backbone) -> nn.Linear | nn.Conv2d:
    """Return the head; of one of several layers the last."""
    layer = backbone.model.get_submodule(backbone.head[-1])
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise TypeError(f"a head is linear or convolutional, not {type(layer).__name__}")  # ``find_head`` found it
    return layer


@contextlib.contextmanager
def watching_head(backbone: Backbone) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Note what goes into the head and what comes out of it, call by call, for the length of the block.

    Yields:
        pairs of ``[N, ...]``, detached; of a head of several layers those of the last one.
    """
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        calls.append((inputs[0].detach(), output.detach()))

    handle = head_layer(backbone).register_forward_hook(note)
    try:
        yield calls
    finally:
        handle.remove()


def has_linear_head(backbone: Backbone) -> bool:
    """Tell whether the class scores are one linear function of one vector: of the head alone, with nothing behind it.

    Runs the network once on two images of noise, in inference mode, in which it is left. Whatever the head gave must
    come out as it is: it gives noise of both signs instead of its own scores.
    """
    if len(backbone.head) != 1:
        return False
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, backbone.image_size, backbone.image_size, generator=draw)
    vectors, given = [], []

    def replace(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        vectors.append(inputs[0].flatten(1).shape[1] == inputs[0].shape[1])
        given.append(torch.randn(output.shape, generator=draw).to(output))
        return given[-1].clone()

    handle = head_layer(backbone).register_forward_hook(replace)
    try:
        with torch.no_grad():
            logits = backbone.model.eval()(images.to(next(backbone.model.parameters()).device))
    finally:
        handle.remove()
    return vectors == [True] and torch.equal(given[0].flatten(1), logits)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside the block; PyTorch's generators are then as they were before."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _like(old: nn.Module, classes: int) -> nn.Module:
    if isinstance(old, nn.Conv2d) and tuple(old.kernel_size) == (1, 1):
        return nn.Conv2d(old.in_channels, classes, kernel_size=1, bias=old.bias is not None)
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, classes, bias=old.bias is not None)
    raise BackboneError(f"a head made of {type(old).__name__} cannot be replaced: choose another backbone.")


def _module_block(backbone: Backbone, name: str) -> Block:
    modules = dict(backbone.model.named_modules())
    if not name or name not in modules:
        close = difflib.get_close_matches(name, [*modules], 3)
        hint = f" Close names: {', '.join(close)}." if close else ""
        raise BackboneError(
            f"{backbone.name} has no block or module {name!r}.{hint} Its blocks are {_listing(backbone)}; any module "
            "inside them will do."
        )
    if next(modules[name].parameters(), None) is None:
        raise BackboneError(
            f"the module {name!r} of {backbone.name} has no parameters to train. Its blocks are {_listing(backbone)}."
        )
    return Block(name, (name,))


def _listing(backbone: Backbone) -> str:
    return ", ".join(block.name for block in backbone.blocks)


def _block_parameters(model: nn.Module, own: dict[str, nn.Parameter], block: Block) -> Iterator[nn.Parameter]:
    for name in block.modules:
        yield from model.get_submodule(name).parameters()
    yield from (own[name] for name in block.parameters if name in own)  # a block's loose tensors may be buffers


def _by_block(model: nn.Module, blocks: Sequence[Block], others: set[int]) -> tuple[list[nn.Parameter], ...]:
    """Return each block's parameters; those of several are of the last one, and ``others`` of none."""
    own, taken = dict(model.named_parameters()), set(others)
    found = []
    for block in reversed(blocks):
        parameters = [each for each in _unique([_block_parameters(model, own, block)]) if id(each) not in taken]
        taken |= {id(each) for each in parameters}
        found.append(parameters)
    return tuple(reversed(found))


def _unique(groups: Iterable[Iterable[nn.Parameter]]) -> list[nn.Parameter]:
    return list({id(parameter): parameter for group in groups for parameter in group}.values())
