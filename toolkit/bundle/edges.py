"""Golden inputs that no photograph resembles, few enough to be shipped with every bundle.

Photographs alone do not tell everything apart: on grey ones exchanged channels change nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]

PATCHES = (
    ((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    ((255, 255, 0), (255, 255, 255), (255, 0, 255)),
    ((0, 255, 255), (255, 128, 0), (0, 0, 0)),
)
"""Saturated colours, row by row, in an order that no turn, mirror or exchange of channels keeps."""
CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))


def golden_edges(height: int, width: int) -> tuple[tuple[str, ...], Images]:
    """Return names and pixels of the edge inputs of a bundle; the same on every call.

    Noise of its own in each channel shows what depends on fine detail, saturated patches exchanged channels and values
    that clip, gradients of another direction in each channel a mirrored or turned image, and coloured points on black
    a wrong border or an image moved by a pixel.

    Args:
        height: of the model's input, in pixels.
        width: of the model's input, in pixels.

    Returns:
        k names, and uint8 ``[k, height, width, 3]`` RGB.
    """
    edges = {
        "coloured noise": np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8),
        "saturated colours": _patches(height, width),
        "gradients": _gradients(height, width),
        "coloured points": _points(height, width),
    }
    return tuple(edges), np.stack(list(edges.values()))


def _patches(height: int, width: int) -> Images:
    colours = np.array(PATCHES, np.uint8)
    rows, columns = np.arange(height) * 3 // height, np.arange(width) * 3 // width
    return np.asarray(colours[rows[:, None], columns[None, :]])


def _gradients(height: int, width: int) -> Images:
    down = np.linspace(0, 255, height).round()[:, None]
    across = np.linspace(0, 255, width).round()[None, :]
    channels = np.broadcast_arrays(down, across, (down[::-1] + across) // 2)
    return np.stack(channels, axis=2).astype(np.uint8)


def _points(height: int, width: int) -> Images:
    image = np.zeros((height, width, 3), np.uint8)
    places = ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1))
    for place, colour in zip(places, CORNERS, strict=True):
        image[place] = colour
    image[height // 2, width // 2] = (255, 255, 0)
    return image
