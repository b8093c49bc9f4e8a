"""Networks without data.

To count operations and to find out whether a network runs, in milliseconds and without memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from toolkit.backbones.backbone import Source


class _EmptyOnMeta(TorchFunctionMode):
    """Create uninitialised tensors on the meta device.

    ``with torch.device("meta")`` would move all tensors, and then RegNet, which computes its widths with tensors,
    cannot be built. Layers allocate their weights with ``torch.empty``, so that moving those is enough.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        changed = dict(kwargs or {})
        if func is torch.empty:
            changed["device"] = "meta"
        return func(*args, **changed)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Call a constructor so that the network's weights take no memory.

    Some networks can only be had on the meta device by building them truly.
    """
    with torch.random.fork_rng(devices=[]):
        for context in (_EmptyOnMeta(), torch.device("meta")):
            # timm's hybrids run a part of themselves while they are built, which fails where some of its tensors have
            # no data.
            with contextlib.suppress(RuntimeError), context:
                return build().to("meta")
        return build().to("meta")


def meta_model(source: Source, name: str, classes: int, image_size: int) -> nn.Module:
    """Build an architecture on the meta device, in inference mode."""
    return on_meta(lambda: source.build(name, classes, image_size)).eval()


def dry_run(model: nn.Module, image_size: int) -> None:
    """Run one image through a network on the meta device. Whatever the network raises comes through."""
    # With gradients on, nn.MultiheadAttention takes its plain path; the fused one is unknown to the counter of
    # operations.
    with torch.enable_grad():
        model(torch.empty(1, 3, image_size, image_size, device="meta"))


def count_gmacs(model: nn.Module, image_size: int) -> float:
    """Return billions of multiply-adds of convolutions and matrix products for one image.

    Not-a-number where a network cannot be counted.
    """
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            dry_run(model, image_size)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AssertionError,
    ):  # NotImplementedError, for operations without shapes, is a RuntimeError
        return float("nan")
    return counter.get_total_flops() / 2e9
