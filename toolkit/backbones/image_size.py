"""Whether a network takes square images of a size: it runs, and the whole image has an effect on its answer.

A network of patches of 14 pixels that is given 64 looks at 56 of them, and the rest can be anything. No comparison of
an artifact with its network can show that, so it is found out before a network is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from toolkit.backbones.backbone import Source
from toolkit.backbones.meta import dry_run, meta_model
from toolkit.errors import ImageSizeError, first_line

_STRIDES = (32, 28, 16, 14, 8, 7, 4, 2)
"""What patches, windows and strides measure, in pixels: sizes of which a network may want multiples."""
_REACH = 64
"""How far above the size that was asked for a larger one is looked for, in pixels."""


def check_image_size(source: Source, name: str, image_size: int, canonical: str) -> None:
    """Find out whether a network takes square images of this side.

    It must run, and as much of the border must have an effect on its answer as at its own size. (At 224 pixels the
    first convolution of SqueezeNet, which has no padding, leaves out one row and one column.)

    Raises:
        ImageSizeError: it does not; names the reason and sizes that work.
    """
    network = _Network(source, name)
    reason = network.refusal(image_size)
    own = network.own_size
    # A network that cannot be run without data fails at its own size too; then nothing is known, and nothing is
    # claimed.
    if reason is not None and network.refusal(own) is not None:
        return
    unseen = 0 if reason is not None else network.unseen(image_size)
    if unseen:
        rows = "row and column have" if unseen == 1 else f"{unseen} rows and columns have"
        reason = f"the last {rows} no effect on its answer"
    if reason is None:
        return
    given = f"{canonical} cannot take images of {image_size} x {image_size} pixels ({reason})"
    step = source.size_step(name)
    if step > 1:
        below = image_size // step * step
        sizes = [size for size in (below, below + step) if size >= step and network.takes(size)] or [own]
        raise ImageSizeError(
            f"{given}. The size must be a multiple of {step}: {' or '.join(map(str, sizes))} works, its own is {own}.",
            sizes,
        )
    if unseen:
        sizes = _around(network, image_size, unseen) or [own]
        works = "does" if len(sizes) == 1 else "do"
        raise ImageSizeError(
            f"{given}. Not every size works: {' and '.join(map(str, sizes))} {works}, its own is {own}.", sizes
        )
    if image_size < own:
        smallest = _smallest(network, image_size, own)
        # Some networks want multiples of 32 without saying so: then the search by halves has not found the smallest.
        earlier = _first(range(image_size // 32 * 32 + 32, smallest, 32), network.takes)
        if earlier is not None:
            raise ImageSizeError(f"{given}. Not every size works: {earlier} does, its own is {own}.", [earlier])
        raise ImageSizeError(f"{given}. The smallest size that works is {smallest}, its own is {own}.", [smallest])
    raise ImageSizeError(f"{given}. Use its own size, {own}.", [own])


def takes_size(source: Source, name: str, image_size: int) -> bool:
    """Tell whether a network takes square images of this side, as ``check_image_size`` does, without a reason."""
    network = _Network(source, name)
    if network.refusal(image_size) is not None:
        return network.refusal(network.own_size) is not None
    return not network.unseen(image_size)


def unseen_border(model: nn.Module, image_size: int) -> int:
    """Return how many of the last rows, or of the last columns, have no effect on a network's answer; the larger one.

    What is not-a-number at the border is not-a-number in the answer wherever a path leads there, whatever the weights.

    Args:
        model: float32 ``[N, 3, H, W]`` in, logits ``[N, C]`` out, on the CPU in inference mode.
        image_size: side of the image.

    Returns:
        0 as well where not-a-number does not show, or shows without being there: then nothing is known.
    """

    def shows(pixels: int) -> bool:
        images = torch.zeros(2, 3, image_size, image_size)
        images[0, :, image_size - pixels :, :] = torch.nan
        images[1, :, :, image_size - pixels :] = torch.nan
        with torch.no_grad():
            return bool(model(images).isnan().flatten(1).any(dim=1).all())

    if shows(1) or not shows(image_size):
        return 0
    hidden, shown = 1, 2
    while shown < image_size and not shows(shown):
        hidden, shown = shown, min(2 * shown, image_size)
    while shown - hidden > 1:
        middle = (hidden + shown) // 2
        if shows(middle):
            shown = middle
        else:
            hidden = middle
    return hidden


@dataclass(frozen=True)
class _Network:
    """A network by its name, built anew for each size."""

    source: Source
    name: str

    @cached_property
    def own_size(self) -> int:
        return self.source.defaults(self.name).image_size

    @cached_property
    def allowed(self) -> int:
        """How much of the border has no effect at the network's own size, in pixels."""
        return self._unseen(self.own_size)

    def refusal(self, image_size: int) -> str | None:
        """Say in one line why it cannot be run on images of this side."""
        try:
            dry_run(meta_model(self.source, self.name, 2, image_size), image_size)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            return first_line(error)
        return None

    def unseen(self, image_size: int) -> int:
        """Return how much of the border has no effect, in pixels; 0 where that is no more than at its own size."""
        pixels = self._unseen(image_size)
        return pixels if pixels and pixels > self.allowed else 0

    def takes(self, image_size: int) -> bool:
        """Tell whether it runs, and the border has an effect."""
        return self.refusal(image_size) is None and not self.unseen(image_size)

    def _unseen(self, image_size: int) -> int:
        # Drawing random weights would take much longer than the one look at them: all is zero.
        model = meta_model(self.source, self.name, 2, image_size).to_empty(device="cpu")
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.zero_()
        try:
            return unseen_border(model, image_size)
        except (RuntimeError, TypeError, ValueError, AssertionError, IndexError):
            return 0  # it cannot be run with all its tables zero, so that nothing is known


def _around(network: _Network, image_size: int, unseen: int) -> list[int]:
    """Return the next sizes below and above that a network takes."""
    # What has no effect can be left out: the answer is the same.
    below = {image_size - unseen, *(image_size // stride * stride for stride in _STRIDES)}
    above = {(image_size // stride + 1) * stride for stride in _STRIDES}
    if all(network.refusal(image_size + more) is None for more in (1, 2, 3)):
        above |= set(range(image_size + 1, image_size + _REACH))
    found = (_first(sorted(below, reverse=True), network.takes), _first(sorted(above), network.takes))
    return [size for size in found if size is not None]


def _smallest(network: _Network, fails: int, works: int) -> int:
    """Return the smallest size at which a network runs, or the next one above it that it takes."""
    own = works
    while works - fails > 1:
        middle = (fails + works) // 2
        if network.refusal(middle) is None:
            works = middle
        else:
            fails = middle
    return _first(range(works, min(works + _REACH, own)), network.takes) or own


def _first(sizes: Iterable[int], takes: Callable[[int], bool]) -> int | None:
    return next((size for size in sizes if size > 0 and takes(size)), None)
