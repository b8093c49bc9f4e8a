"""What each way takes on a shape, in turns, and how far it is from float64; and which shapes a network has."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from benchmarks.depthwise.ways import WAYS, NotTakenError, by_pytorch
from benchmarks.harness.figures import Spread, spread
from toolkit.backbones.meta import dry_run, meta_model
from toolkit.backbones.registry import split_name
from toolkit.run_folder import DepthwiseShape
from toolkit.training.depthwise import call_of, output_size

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REPEATS = 40
"""Numbers per turn: what is fast is called more often, up to so many times."""
TURN_SECONDS = 0.02


class _Shapes(TorchFunctionMode):
    """Notes the shapes of the depthwise convolutions inside a block, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[DepthwiseShape, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == functional.conv2d and (call := call_of(*args, **(kwargs or {}))) is not None:
            self.found[call.shape] = None
        return func(*args, **(kwargs or {}))


def shapes_of(backbone: str, side: int) -> list[DepthwiseShape]:
    """Return the shapes of the depthwise convolutions of a network at an image size, without computing anything."""
    _, source, bare = split_name(backbone)
    model = meta_model(source, bare, 10, side)
    with _Shapes() as shapes:
        dry_run(model, side)
    return list(shapes.found)


@dataclass(frozen=True)
class Measured:
    """The ways on one shape in one type."""

    shape: DepthwiseShape
    kind: str
    errors: dict[str, float]
    """By way, the largest difference from float64, of the largest gradient."""
    seconds: dict[str, list[float]]
    """By way, of each turn, per call."""

    def spent(self, way: str) -> Spread:
        """Return milliseconds over the turns."""
        return spread([1000 * value for value in self.seconds[way]])

    @property
    def fastest(self) -> str:
        """The way with the least median."""
        return min(self.seconds, key=lambda way: self.spent(way).median)


def measured(shape: DepthwiseShape, kind: str, batch: int, rounds: int, ways: Sequence[str] = tuple(WAYS)) -> Measured:
    """Try ways on a shape, where they can compute it, each round in another order."""
    generator = torch.Generator().manual_seed(0)
    images, gradient = (
        torch.randn(batch, shape.channels, *size, generator=generator)
        .to(TYPES[kind])
        .contiguous(memory_format=torch.channels_last)
        for size in (shape.size, output_size(shape))
    )
    exact = by_pytorch(images.double(), gradient.double(), shape)
    calls: dict[str, Callable[[], torch.Tensor]] = {}
    errors: dict[str, float] = {}
    for name, way in ((name, WAYS[name]) for name in ways):
        if name == "products" and not _is_small(shape):
            continue
        try:
            found = way(images, gradient, shape).double()
        except NotTakenError:
            continue
        errors[name] = float((found - exact).abs().max() / exact.abs().max())
        calls[name] = functools.partial(way, images, gradient, shape)
    order = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name in order.permutation(list(calls)):
            seconds[name].append(turn(calls[name]))
    return Measured(shape, kind, errors, seconds)


def _is_small(shape: DepthwiseShape) -> bool:
    """Tell whether all pairs of positions fit into memory."""
    return shape.channels * math.prod(shape.size) * math.prod(output_size(shape)) < 10**8


def turn(call: Callable[[], object]) -> float:
    """Call for some time and return the least seconds of a call: what disturbs makes a call longer, never shorter."""
    least, began = float("inf"), time.perf_counter()
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        least = min(least, now - start)
        if now - began > TURN_SECONDS:
            break
    return least
