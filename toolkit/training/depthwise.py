"""The weight gradient of depthwise convolutions on small maps.

PyTorch's own kernels on a CPU walk over one map at a time, and on maps of a few pixels spend most of a training step
there. Here it is a product of matrices: for each channel, every position of the output with every position of the
input, summed over the images of the batch. Of these pairs of positions a kernel's weight takes those that it joins.

The forward pass and the gradient of the input stay PyTorch's. Which way is taken is decided by shape, type and
instruction set alone, never by a measurement, so that a run repeats bit for bit on one machine with one number of
threads: each sum is that of a matrix product, whose order PyTorch keeps for one thread count.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from toolkit.run_folder import DepthwiseGradient, DepthwiseShape

Way = Literal["pytorch", "products"]
Pair = tuple[int, int]

MOST_CELLS: Mapping[str, float] = {"AVX2": 1.5, "AVX512": 2.0}
"""By instruction set, how many cells of the map there may be for each weight of the kernel for products to be taken.

Measured by ``python -m benchmarks.depthwise_ways``: what products take beside PyTorch's way grows with that number and
hardly with anything else. At 1.3 it is 0.7 to 0.9 of the time, at 2 (maps of 7 x 7, kernels of 5 x 5) 0.6 to 1.0 with
AVX-512 and 1.1 with AVX2, at 2.6 it is more with both. On instruction sets that are not here nothing was measured, and
PyTorch's way is taken.
"""
MOST_PAIRS = 64 * 64
"""How many pairs of positions, of output and input, there may be: all of them are in memory, for each channel."""
FAST_KERNEL = 3
"""Up to this side PyTorch's own kernel is fast (a fifth of products on 4 x 4), if the map is not smaller than it."""
TYPES = (torch.float32, torch.bfloat16, torch.float64)


def instruction_set() -> str:
    """Return what PyTorch's kernels are compiled for here: ``AVX2``, ``AVX512``, ``DEFAULT`` or another name."""
    return torch.backends.cpu.get_cpu_capability()


def choose_way(shape: DepthwiseShape, instructions: str) -> Way:
    """Return how the weight gradient of a depthwise convolution is computed.

    Args:
        shape: of the convolution.
        instructions: see ``instruction_set``.
    """
    cells = math.prod(shape.size)
    few = cells <= MOST_CELLS.get(instructions, 0) * math.prod(shape.kernel)
    fits = cells * math.prod(output_size(shape)) <= MOST_PAIRS
    return "products" if few and fits and not _is_fast_in_pytorch(shape) else "pytorch"


def _is_fast_in_pytorch(shape: DepthwiseShape) -> bool:
    """Tell whether oneDNN, which PyTorch calls, takes its fast kernel, as far as was measured."""
    return all(
        kernel <= FAST_KERNEL and size >= kernel + padding % stride
        for kernel, size, padding, stride in zip(shape.kernel, shape.size, shape.padding, shape.stride, strict=True)
    )


def output_size(shape: DepthwiseShape) -> Pair:
    """Return height and width of what a convolution computes."""
    height, width = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, padding, dilation in zip(
            shape.size, shape.kernel, shape.stride, shape.padding, shape.dilation, strict=True
        )
    )
    return height, width


def gradient_by_products(images: torch.Tensor, gradient: torch.Tensor, shape: DepthwiseShape) -> torch.Tensor:
    """Return the gradient of a depthwise convolution's weights, ``[C, 1, kh, kw]``, of the images' type.

    bfloat16 is multiplied and summed in float32.

    Args:
        images: the input, ``[N, C, H, W]`` in any layout; fastest in channels-last.
        gradient: of the output, ``[N, C, h, w]``.
        shape: of the convolution.
    """
    wide = torch.float64 if images.dtype == torch.float64 else torch.float32
    pairs = torch.bmm(_by_channel(gradient.to(wide)).transpose(1, 2), _by_channel(images.to(wide)))
    joined = pairs.flatten(1) @ _joined_by_weight(shape, wide)
    return joined.view(shape.channels, 1, *shape.kernel).to(images.dtype)


def _by_channel(maps: torch.Tensor) -> torch.Tensor:
    """Return maps ``[N, C, H, W]`` as ``[C, N, H * W]``, contiguous."""
    images, channels, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1)
    if rows.is_contiguous():
        # The transposition of a matrix is what PyTorch copies fast.
        return rows.reshape(-1, channels).t().contiguous().view(channels, images, height * width)
    return maps.transpose(0, 1).reshape(channels, images, height * width)


@functools.lru_cache(maxsize=256)
def _joined_by_weight(shape: DepthwiseShape, kind: torch.dtype) -> torch.Tensor:
    """Return which pairs of positions each weight joins: 1 or 0, ``[h * w * H * W, kh * kw]``."""
    rows, columns = (
        _joined_along(*sizes)
        for sizes in zip(
            output_size(shape), shape.size, shape.kernel, shape.stride, shape.padding, shape.dilation, strict=True
        )
    )
    # Of rows [h, H, kh] and columns [w, W, kw]: a weight joins two positions if it joins their rows and their columns.
    return torch.einsum("yri,xcj->yxrcij", rows, columns).reshape(-1, math.prod(shape.kernel)).to(kind)


def _joined_along(out: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> torch.Tensor:
    """Return along one axis which places of output and input a place of the kernel joins, ``[out, size, kernel]``."""
    from_out = torch.arange(out).view(-1, 1, 1) * stride - padding
    in_kernel = torch.arange(kernel).view(1, 1, -1) * dilation
    return (from_out + in_kernel == torch.arange(size).view(1, -1, 1)).float()


class _Convolution(torch.autograd.Function):
    """A depthwise convolution whose weight gradient is ``gradient_by_products``; may be differentiated twice."""

    @staticmethod
    def forward(
        images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, shape: DepthwiseShape
    ) -> torch.Tensor:
        return functional.conv2d(images, weight, bias, shape.stride, shape.padding, shape.dilation, shape.channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        images, weight, bias, ctx.shape = inputs
        ctx.has_bias = bias is not None
        ctx.save_for_backward(images, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (images, weight), shape = gradients, ctx.saved_tensors, ctx.shape
        of_images, of_weight, of_bias, _ = ctx.needs_input_grad
        wanted = (of_images, False, of_bias)
        of_the_images = of_the_weight = of_the_bias = None
        if any(wanted):
            of_the_images, _, of_the_bias = torch.ops.aten.convolution_backward(
                gradient,
                images,
                weight,
                [shape.channels] if ctx.has_bias else None,
                shape.stride,
                shape.padding,
                shape.dilation,
                False,
                (0, 0),
                shape.channels,
                wanted,
            )
        if of_weight:
            # A caller who is under autocast would have the products made of narrow numbers.
            with torch.autocast("cpu", enabled=False):
                of_the_weight = gradient_by_products(images, gradient, shape)
        return of_the_images, of_the_weight, of_the_bias, None


class DepthwiseGradients(TorchFunctionMode):
    """Inside a ``with`` block of it, convolutions on the CPU get the weight gradient that is fastest for their shape.

    Only what is recorded for a backward pass changes, and of that nothing but the weight gradient.

    Attributes:
        instructions: see ``instruction_set``.
    """

    def __init__(self, instructions: str | None = None) -> None:
        """Make it.

        Args:
            instructions: of the processor that leads; this one's by default.
        """
        super().__init__()
        self.instructions = instruction_set() if instructions is None else instructions
        self._ways: dict[DepthwiseShape, Way] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute a convolution as its shape says, and everything else as it is."""
        if func == functional.conv2d:
            call = call_of(*args, **(kwargs or {}))
            if call is not None and call.is_trained_here and self._way(call.shape) == "products":
                return call.with_products()
        return func(*args, **(kwargs or {}))

    def _way(self, shape: DepthwiseShape) -> Way:
        if shape not in self._ways:
            self._ways[shape] = choose_way(shape, self.instructions)
        return self._ways[shape]

    def chosen(self) -> tuple[DepthwiseGradient, ...]:
        """Return what was chosen for every shape that has been trained, in the order of their first step."""
        return tuple(DepthwiseGradient(shape=shape, way=way) for shape, way in self._ways.items())

    def state(self) -> list[dict[str, Any]]:
        """Return what a checkpoint keeps: what was chosen, in plain types."""
        return [found.model_dump() for found in self.chosen()]

    def load(self, state: Iterable[Mapping[str, Any]]) -> None:
        """Put back what ``state`` returned: a run that goes on computes as it began, wherever it does."""
        for found in map(DepthwiseGradient.model_validate, state):
            self._ways[found.shape] = found.way


@dataclass(frozen=True)
class Call:
    """A call of ``conv2d`` that is a depthwise convolution with one kernel per channel."""

    images: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    shape: DepthwiseShape

    @property
    def is_trained_here(self) -> bool:
        """Whether a backward pass on the CPU will ask for its weight gradient."""
        return (
            self.weight.requires_grad
            and torch.is_grad_enabled()
            and all(tensor.device.type == "cpu" and tensor.dtype in TYPES for tensor in (self.images, self.weight))
        )

    def with_products(self) -> torch.Tensor:
        """Compute it, with a weight gradient that will be ``gradient_by_products``; as autocast says, if it is on."""
        tensors = (_narrowed(tensor) for tensor in (self.images, self.weight, self.bias))
        output: torch.Tensor = _Convolution.apply(*tensors, self.shape)
        return output


def call_of(
    input: torch.Tensor,  # the name that PyTorch gives it
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Iterable[int] = 1,
    padding: int | Iterable[int] | str = 0,
    dilation: int | Iterable[int] = 1,
    groups: int = 1,
) -> Call | None:
    """Return a call of ``conv2d`` as a depthwise convolution.

    None where it is another one, is padded on one side more than on the other, or will be refused.
    """
    if groups == 1 or input.dim() != 4 or not groups == input.shape[1] == weight.shape[0]:
        return None
    kernel, steps = _pair(weight.shape[2:]), _pair(dilation)
    around = _around(padding, kernel, steps)
    if around is None:
        return None
    shape = DepthwiseShape(
        channels=groups,
        size=_pair(input.shape[2:]),
        kernel=kernel,
        stride=_pair(stride),
        padding=around,
        dilation=steps,
    )
    # What is too small for its kernel PyTorch refuses, with its own message.
    return Call(input, weight, bias, shape) if min(output_size(shape)) > 0 else None


def _narrowed(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return what autocast makes of an argument of a convolution; outside of it, the argument."""
    if tensor is None or tensor.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return tensor
    return tensor.to(torch.get_autocast_dtype("cpu"))


def _around(padding: int | Iterable[int] | str, kernel: Pair, dilation: Pair) -> Pair | None:
    """Return the padding on each side; None where the two sides of an axis differ."""
    if not isinstance(padding, str):
        return _pair(padding)
    if padding == "valid":
        return 0, 0
    (rows, odd_rows), (columns, odd_columns) = (
        divmod(steps * (size - 1), 2) for size, steps in zip(kernel, dilation, strict=True)
    )
    return None if odd_rows or odd_columns else (rows, columns)


def _pair(value: int | Iterable[int]) -> Pair:
    first, *rest = (value,) if isinstance(value, int) else value
    return int(first), int(rest[0] if rest else first)
