"""Networks without data.

To count operations and to find out whether an image size works, in milliseconds and without memory.
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
from toolkit.errors import BackboneError, first_line


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


def check_image_size(source: Source, name: str, image_size: int, canonical: str) -> None:
    """Find out whether a network takes square images of this side.

    Raises:
        BackboneError: it does not; names the reason and sizes that work.
    """
    reason = _refusal(source, name, image_size)
    own = source.defaults(name).image_size
    # A network that cannot be run without data fails at its own size too; then nothing is known, and nothing is
    # claimed.
    if reason is None or _refusal(source, name, own) is not None:
        return
    given = f"{canonical} cannot take images of {image_size} x {image_size} pixels ({reason})"
    step = source.size_step(name)
    if step > 1:
        below = image_size // step * step
        valid = [size for size in (below, below + step) if size >= step and _refusal(source, name, size) is None]
        raise BackboneError(
            f"{given}. The size must be a multiple of {step}: {' or '.join(map(str, valid)) or own} works, its own "
            f"is {own}."
        )
    if image_size < own:
        smallest = _smallest(source, name, image_size, own)
        # Some networks want multiples of 32 without saying so: then the search by halves has not found the smallest.
        earlier = [
            size for size in range(image_size // 32 * 32 + 32, smallest, 32) if _refusal(source, name, size) is None
        ]
        if earlier:
            raise BackboneError(f"{given}. Not every size works: {earlier[0]} does, its own is {own}.")
        raise BackboneError(f"{given}. The smallest size that works is {smallest}, its own is {own}.")
    raise BackboneError(f"{given}. Use its own size, {own}.")


def _refusal(source: Source, name: str, image_size: int) -> str | None:
    try:
        dry_run(meta_model(source, name, 2, image_size), image_size)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        return first_line(error)
    return None


def _smallest(source: Source, name: str, fails: int, works: int) -> int:
    while works - fails > 1:
        middle = (fails + works) // 2
        if _refusal(source, name, middle) is None:
            works = middle
        else:
            fails = middle
    return works
