"""Ways to compute the weight gradient of a depthwise convolution, in turns, on the shapes of well-known networks.

What ``toolkit.training.depthwise`` chooses between is chosen from this. On a processor with AVX-512 the figures for
AVX2 are those of ``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2``. The way ``numba``
is measured where numba is installed; toolkit does not use it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from benchmarks.harness.command_line import main, positive, report_parser
from benchmarks.harness.figures import Spread, spread
from benchmarks.harness.report import Claim, Report, Table, finish
from toolkit import provenance
from toolkit.backbones.meta import dry_run, meta_model
from toolkit.backbones.registry import split_name
from toolkit.run_folder import DepthwiseShape
from toolkit.training.depthwise import call_of, choose_way, gradient_by_products, instruction_set, output_size

NAME = "depthwise_ways"
BACKBONES = "timm:tf_efficientnet_lite0,torchvision:mobilenet_v3_large,torchvision:convnext_tiny"
SIDES = (64, 128, 224)
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EQUAL = {"float32": 1e-5, "bfloat16": 2**-6}
"""Of the largest gradient; how far a way may be from float64."""
SLOWER = 1.1
"""How many times the seconds of the fastest way the chosen one may take."""
REPEATS = 40
"""Numbers per turn: what is fast is called more often, up to so many times."""
TURN_SECONDS = 0.02


class NotTakenError(Exception):
    """A way is not for this shape, or what it needs is not installed: the table has no row of it."""


Way = Callable[[torch.Tensor, torch.Tensor, DepthwiseShape], torch.Tensor]
"""Takes input, gradient of the output and the shape; returns the gradient of the weights ``[C, 1, kh, kw]``."""


def by_pytorch(images: torch.Tensor, gradient: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    """Compute it as PyTorch does."""
    weight = images.new_empty(shape.channels, 1, *shape.kernel)
    _, found, _ = torch.ops.aten.convolution_backward(
        gradient,
        images,
        weight,
        None,
        shape.stride,
        shape.padding,
        shape.dilation,
        False,
        (0, 0),
        shape.channels,
        (False, True, False),
    )
    return torch.as_tensor(found)


def by_offsets(images: torch.Tensor, gradient: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    """Sum, for each place of the kernel, the product of the gradient with the input shifted there."""
    padded = _padded(images, shape).float()
    upstream = gradient.float()
    found = [(upstream * part).sum((0, 2, 3)) for part in _shifted(padded, shape)]
    return torch.stack(found, 1).view(shape.channels, 1, *shape.kernel).to(images.dtype)


def by_columns(images: torch.Tensor, gradient: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    """Multiply, for each channel, the unfolded columns of the input with the gradient."""
    padded = _padded(images, shape).float()
    columns = torch.stack([_rows(part) for part in _shifted(padded, shape)], 1)
    found = torch.bmm(columns, _rows(gradient.float()).unsqueeze(2))
    return found.view(shape.channels, 1, *shape.kernel).to(images.dtype)


def by_rows(images: torch.Tensor, gradient: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    """Multiply, for each channel and row of the kernel, columns of the output with columns of the input.

    Between products over all pairs of positions, which waste most, and none: for strides of one.

    Raises:
        NotTakenError: the stride is not one.
    """
    if shape.stride != (1, 1):
        raise NotTakenError
    (kernel_rows, kernel_columns), (step_rows, step_columns) = shape.kernel, shape.dilation
    padded = _padded(images, shape).float()
    count, channels, height, width = padded.shape
    out_rows, out_columns = output_size(shape)
    # [C, W, N * H]: rows of all images one behind the other. Those of the gradient that are not there are zeros.
    across = padded.permute(1, 3, 0, 2).reshape(channels, width, count * height)
    longer = functional.pad(gradient.float(), (0, 0, 0, height - out_rows))
    upstream = longer.permute(1, 3, 0, 2).reshape(channels, out_columns, count * height)
    found = images.new_empty(channels, kernel_rows, kernel_columns, dtype=torch.float32)
    for row in range(kernel_rows):
        shift = row * step_rows
        length = count * height - shift
        pairs = torch.bmm(upstream[:, :, :length], across[:, :, shift:].transpose(1, 2))
        for column in range(kernel_columns):
            found[:, row, column] = pairs.diagonal(column * step_columns, 1, 2)[:, :out_columns].sum(1)
    return found.view(channels, 1, kernel_rows, kernel_columns).to(images.dtype)


def by_tiles(images: torch.Tensor, gradient: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    """Lay images beside each other into larger maps, padded, and let PyTorch compute the gradient of these."""
    padded = _padded(images, shape)
    count, channels, height, width = padded.shape
    rows, columns = (-(-size // stride) * stride for size, stride in zip((height, width), shape.stride, strict=True))
    places = (rows // shape.stride[0], columns // shape.stride[1])
    side = max(1, min(math.isqrt(count), 32 // max(places)))
    groups = -(-count // side**2)
    out_rows, out_columns = output_size(shape)
    more = (0, 0, 0, groups * side**2 - count)
    inputs = functional.pad(padded, (0, columns - width, 0, rows - height, *more))
    upstream = functional.pad(gradient, (0, places[1] - out_columns, 0, places[0] - out_rows, *more))
    large = DepthwiseShape(
        channels=channels,
        size=(side * rows, side * columns),
        kernel=shape.kernel,
        stride=shape.stride,
        padding=(0, 0),
        dilation=shape.dilation,
    )
    tall, wide = output_size(large)
    tiled = _tiled(upstream, groups, side)[:, :, :tall, :wide]
    return by_pytorch(_tiled(inputs, groups, side), tiled.contiguous(memory_format=torch.channels_last), large)


def by_numba(images: torch.Tensor, gradient: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    """Loop over images and positions outside and channels inside, compiled by numba.

    Raises:
        NotTakenError: numba is not installed.
    """
    if importlib.util.find_spec("numba") is None:
        raise NotTakenError
    inputs, upstream = (tensor.float().permute(0, 2, 3, 1).contiguous().numpy() for tensor in (images, gradient))
    found = np.zeros((*shape.kernel, shape.channels), np.float32)
    _numba_kernel()(inputs, upstream, found, shape.stride, shape.padding, shape.dilation)
    return torch.from_numpy(found).permute(2, 0, 1).unsqueeze(1).to(images.dtype)


WAYS: dict[str, Way] = {
    "pytorch": by_pytorch,
    "products": gradient_by_products,
    "rows": by_rows,
    "columns": by_columns,
    "offsets": by_offsets,
    "tiles": by_tiles,
    "numba": by_numba,
}


def _padded(images: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    rows, columns = shape.padding
    return functional.pad(images, (columns, columns, rows, rows))


def _shifted(padded: torch.Tensor, shape: DepthwiseShape) -> Iterator[torch.Tensor]:
    """Yield, for each place of the kernel, the part of a padded input that it meets, of the output's size."""
    out_rows, out_columns = output_size(shape)
    (step_rows, step_columns), (stride_rows, stride_columns) = shape.dilation, shape.stride
    for row in range(shape.kernel[0]):
        for column in range(shape.kernel[1]):
            top, left = row * step_rows, column * step_columns
            yield padded[
                :,
                :,
                top : top + (out_rows - 1) * stride_rows + 1 : stride_rows,
                left : left + (out_columns - 1) * stride_columns + 1 : stride_columns,
            ]


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """Return maps ``[N, C, H, W]`` as ``[C, N * H * W]``."""
    return maps.transpose(0, 1).reshape(maps.shape[1], -1)


def _tiled(maps: torch.Tensor, groups: int, side: int) -> torch.Tensor:
    """Return maps ``[groups * side * side, C, h, w]`` as ``[groups, C, side * h, side * w]``, channels-last."""
    _, channels, height, width = maps.shape
    grid = maps.view(groups, side, side, channels, height, width).permute(0, 1, 4, 2, 5, 3)
    return grid.reshape(groups, side * height, side * width, channels).permute(0, 3, 1, 2)


@functools.cache
def _numba_kernel() -> Callable[..., None]:  # noqa: C901  # loops as of C, which numba compiles to such
    import numba

    block = 16

    def sums(inputs, upstream, found, stride, padding, dilation):  # type: ignore[no-untyped-def]  # compiled by numba
        count, height, width, channels = inputs.shape
        _, out_rows, out_columns, _ = upstream.shape
        kernel_rows, kernel_columns, _ = found.shape
        for number in numba.prange(-(-channels // block)):
            first = number * block
            last = min(first + block, channels)
            for image in range(count):
                for row in range(out_rows):
                    for column in range(out_columns):
                        for i in range(kernel_rows):
                            y = row * stride[0] + i * dilation[0] - padding[0]
                            if y < 0 or y >= height:
                                continue
                            for j in range(kernel_columns):
                                x = column * stride[1] + j * dilation[1] - padding[1]
                                if x < 0 or x >= width:
                                    continue
                                for channel in range(first, last):
                                    found[i, j, channel] += (
                                        upstream[image, row, column, channel] * inputs[image, y, x, channel]
                                    )

    compiled: Callable[..., None] = numba.njit(sums, parallel=True, fastmath=True)
    numba.set_num_threads(torch.get_num_threads())
    return compiled


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


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = report_parser(NAME, __doc__)
    parser.add_argument("--backbones", default=BACKBONES, metavar="A,B", help="as of toolkit")
    parser.add_argument("--ways", default=",".join(WAYS), metavar="A,B", help="pytorch among them")
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--largest", type=positive, default=16, metavar="PIXELS", help="side of the largest maps")
    parser.add_argument("--threads", type=positive, default=provenance.available_cores())
    parser.add_argument("--rounds", type=positive, default=7, help="turns of each way on each shape")
    return parser.parse_args(arguments)


def claims(found: Sequence[Measured], instructions: str) -> list[Claim]:
    """Judge: all ways compute the same, and the rule takes one that is as good as the fastest."""
    off = {kind: max((max(each.errors.values()) for each in found if each.kind == kind), default=0.0) for kind in TYPES}
    ratios = [
        each.spent(choose_way(each.shape, instructions)).median
        / min(each.spent(way).median for way in ("pytorch", "products") if way in each.seconds)
        for each in found
    ]
    return [
        *(
            Claim(f"all ways compute the same in {kind}", f"{off[kind]:.1e} of the largest gradient", off[kind] < least)
            for kind, least in EQUAL.items()
        ),
        Claim(
            f"what the rule takes is nowhere slower than {SLOWER:.1f}x the better of the two that it chooses between",
            f"{max(ratios):.2f}x",
            max(ratios) <= SLOWER,
        ),
    ]


def table(found: Sequence[Measured], instructions: str) -> Table:
    """Write out a row per shape and type, milliseconds per call."""
    rows = [
        (
            str(each.shape.channels),
            *(" x ".join(map(str, pair)) for pair in (each.shape.size, each.shape.kernel, each.shape.stride)),
            each.kind,
            *(f"{each.spent(way).median:.2f}" if way in each.seconds else "" for way in WAYS),
            each.fastest,
            choose_way(each.shape, instructions),
        )
        for each in found
    ]
    return Table(("channels", "map", "kernel", "stride", "type", *WAYS, "fastest", "the rule takes"), rows)


def benchmark(arguments: Sequence[str]) -> int:
    """Measure every shape and write the report."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    shapes = dict.fromkeys(
        shape
        for backbone in options.backbones.split(",")
        for side in SIDES
        for shape in shapes_of(backbone, side)
        if max(shape.size) <= options.largest
    )
    instructions = instruction_set()
    found = []
    for shape in sorted(shapes, key=lambda each: (math.prod(each.size), each.kernel, each.stride, each.channels)):
        for kind in TYPES:
            found.append(measured(shape, kind, options.batch_size, options.rounds, options.ways.split(",")))
            best = ", ".join(f"{way} {found[-1].spent(way).median:.2f}" for way in found[-1].seconds)
            print(f"{shape.channels} channels, {shape.size}, kernel {shape.kernel}, {kind}: {best} ms", flush=True)
    return finish(
        Report(
            name=NAME,
            title="The weight gradient of depthwise convolutions on small maps",
            settings={
                "batch size": options.batch_size,
                "threads": options.threads,
                "rounds": options.rounds,
                "instruction set": instructions,
            },
            claims=claims(found, instructions),
            tables=[table(found, instructions)],
            notes=[
                "Milliseconds per call, the median over the rounds of the fastest call of a turn. The ways took turns, "
                "each round in another order. Tensors are channels-last, as training has them.",
                *(f"`{name}`: {(way.__doc__ or '').splitlines()[0]}" for name, way in WAYS.items()),
            ],
            measurements={
                "shapes": [
                    {
                        "shape": each.shape.model_dump(),
                        "type": each.kind,
                        "errors": each.errors,
                        "seconds": each.seconds,
                    }
                    for each in found
                ]
            },
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
