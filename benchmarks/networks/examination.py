"""One network taken all the way: a new head, the border, the cut, an artifact, a step of training."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from benchmarks.networks.catalogue import smallest_side
from benchmarks.networks.finding import UNCUT, Finding
from benchmarks.networks.parity import LABELS, parity
from benchmarks.networks.terminal import heard
from toolkit.backbones import Backbone, create_backbone, set_trainable
from toolkit.backbones.frontier import NoFrontierError, divide_at_frontier
from toolkit.backbones.image_size import unseen_border
from toolkit.errors import ToolkitError, first_line


def examine(family: str, name: str, formats: Sequence[str]) -> Finding:
    """Take one model all the way."""
    finding = Finding(family, f"timm:{name}")
    started = time.perf_counter()
    with heard() as said:
        try:
            backbone = create_backbone(
                finding.model, weights="none", classes=len(LABELS), image_size=smallest_side(name), seed=0
            )
            finding.side, finding.head = backbone.image_size, describe_head(backbone)
            finding.parameters = sum(each.numel() for each in backbone.model.parameters())
            finding.blocks = len(backbone.blocks)
            random_statistics(backbone.model)
            finding.border = border(backbone)
            finding.cut = cut(backbone)
            finding.formats = {each: parity(backbone, each) for each in formats}
            finding.step = step(backbone)  # last, for it may leave weights that are not numbers
        except ToolkitError as error:
            finding.refused = str(error)
        except Exception as error:  # what no family may raise is a finding, too
            finding.failed = f"{type(error).__name__}: {first_line(error)}"
    finding.said = said()
    finding.seconds = time.perf_counter() - started
    return finding


def random_statistics(model: nn.Module) -> None:
    """Draw what initialisation leaves at 0 or 1, which would hide a layer that was dropped or folded wrongly.

    Statistics of BatchNorm, and scales that are 0 at first so that a branch gives nothing.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.1, generator=generator)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
        for key, parameter in model.named_parameters():
            if key.endswith(("weight", "gamma", "scale")) and parameter.ndim < 2 and not parameter.any():
                parameter.uniform_(0.5, 1.5, generator=generator)


def describe_head(backbone: Backbone) -> str:
    """Name the layers of the head, and how the network pools before it."""
    model = backbone.model
    layers = ", ".join(f"{name} ({type(model.get_submodule(name)).__name__})" for name in backbone.head)
    kinds = {type(module).__name__ for module in model.modules()}
    pools = sorted(kind for kind in kinds if kind.startswith(("AttentionPool", "ClassAttn", "ClassAttention")))
    pool = getattr(model, "global_pool", None)
    if not pools and isinstance(pool, str) and pool:
        pools = [pool]
    return f"{layers} behind {', '.join(pools)}" if pools else layers


def border(backbone: Backbone) -> str:
    """Say how many of the last rows and columns have no effect on the logits."""
    pixels = unseen_border(backbone.model.eval(), backbone.image_size)
    return f"{pixels} px without effect" if pixels else ""


def digests(model: nn.Module) -> dict[str, bytes]:
    """Hash each tensor."""
    return {
        name: hashlib.blake2b(tensor.detach().contiguous().numpy().tobytes(), digest_size=16).digest()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


def step(backbone: Backbone) -> str:
    """Make one step of each stage, and say what moved that should not, or did not that should."""
    return "; ".join(problem for unfreeze in (0, 1) for problem in _step(backbone, min(unfreeze, len(backbone.blocks))))


def _step(backbone: Backbone, unfreeze: int) -> Iterator[str]:
    model, side = backbone.model, backbone.image_size
    parts = set_trainable(backbone, unfreeze)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    head = {names[id(parameter)] for parameter in parts.head}
    rest = {names[id(parameter)] for parameter in parts.backbone}
    before = digests(model)
    optimizer = torch.optim.SGD([*parts.head, *parts.backbone], lr=0.1, momentum=0.9, weight_decay=0.1)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    logits = model(images)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, len(LABELS)):
        yield "in training it does not give one tensor of logits"
        return
    nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()
    after = digests(model)
    moved = {name for name in after if after[name] != before[name]}
    if moved - head - rest:
        yield f"moved though frozen: {', '.join(sorted(moved - head - rest)[:3])}"
    if not head <= moved:
        yield f"the head did not move: {', '.join(sorted(head - moved))}"
    if rest and not rest & moved:
        yield "the unfrozen block did not move"


def cut(backbone: Backbone) -> str:
    """Say where the network is cut, or why it is not."""
    stages = [set_trainable(backbone, 0), set_trainable(backbone, min(1, len(backbone.blocks)))]
    try:
        division = divide_at_frontier(backbone, stages)
    except NoFrontierError as error:
        return f"{UNCUT} {error}"
    return ", ".join(f"{tensor.name} {'x'.join(map(str, tensor.shape))}" for tensor in division.tensors)
