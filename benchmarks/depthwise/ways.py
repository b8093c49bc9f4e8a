"""Ways to compute the weight gradient of a depthwise convolution: the two that toolkit uses, and others."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional

from toolkit.run_folder import DepthwiseShape
from toolkit.training.depthwise import gradient_by_products, output_size


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
