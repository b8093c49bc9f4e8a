"""What artifacts are compared on.

Real test images, inputs at the edges of what can be fed, and how both are packed into batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.errors import RecipeError

Images = npt.NDArray[np.uint8]

DEFAULT_IMAGES = 512
MAIN_BATCH = 32
"""All inputs are run at this size once; the statistics are those of this pass."""
OTHER_BATCHES: dict[int, int] = {1: 16, 2: 16, 3: 24, 7: 28, 128: 110}
"""How many of the test images are run at each other batch size. Edge inputs are run at every size.

Small batches cost far more per image, and show what depends on the batch size with few images already.
"""
BATCH_SIZES = tuple(sorted((MAIN_BATCH, *OTHER_BATCHES)))
NOISE_IMAGES = 6


@dataclass(frozen=True)
class Inputs:
    """Everything one verification feeds, test images first."""

    names: tuple[str, ...]
    images: Images
    """uint8 ``[n, H, W, 3]`` RGB at the model's size."""
    test_images: int
    """How many of them are test images; the rest are edge inputs."""
    targets: npt.NDArray[np.int64] | None = None
    """The true class of each test image; None where it is not known."""

    @property
    def edge_inputs(self) -> int:
        """How many are edge inputs."""
        return len(self.names) - self.test_images


@dataclass(frozen=True)
class Batch:
    """Inputs that are run at once."""

    batch_size: int
    """The size that is being checked; the last batch of it may be shorter."""
    rows: tuple[int, ...]
    """Positions in ``Inputs``."""


def make_inputs(
    names: tuple[str, ...], images: Images, seed: int, targets: npt.NDArray[np.int64] | None = None
) -> Inputs:
    """Put edge inputs of the same size after test images ``[n, H, W, 3]``.

    ``targets`` are the true classes of these.
    """
    edge_names, edges = edge_inputs(images.shape[1], images.shape[2], seed)
    return Inputs(
        names=names + edge_names, images=np.concatenate([images, edges]), test_images=len(names), targets=targets
    )


def edge_inputs(height: int, width: int, seed: int) -> tuple[tuple[str, ...], Images]:
    """Return names and pixels of inputs that no photograph resembles.

    Constant images show a wrong mean or padding, impulses an exchanged axis or channel, gradients a mirrored or rotated
    side, noise the rest.

    Returns:
        k names, and uint8 ``[k, H, W, 3]``.
    """
    edges: dict[str, Images] = {}
    for name, value in (("zeros", 0), ("full", 255)):
        edges[f"edge/{name}"] = np.full((height, width, 3), value, np.uint8)
    random = np.random.default_rng(seed)
    for number in range(NOISE_IMAGES):
        edges[f"edge/noise-{number}"] = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    bottom, right, centre = height - 1, width - 1, (height // 2, width // 2)
    corners = {"top-left": (0, 0), "top-right": (0, right), "bottom-left": (bottom, 0), "bottom-right": (bottom, right)}
    for name, place in {**corners, "centre": centre}.items():
        edges[f"edge/impulse-{name}"] = _impulse(height, width, place, slice(None))
    for channel, name in enumerate(("red", "green", "blue")):
        edges[f"edge/impulse-{name}"] = _impulse(height, width, centre, slice(channel, channel + 1))
    down = np.linspace(0, 255, height).round().astype(np.uint8)[:, None, None]
    across = np.linspace(0, 255, width).round().astype(np.uint8)[None, :, None]
    edges["edge/gradient-down"] = np.ascontiguousarray(np.broadcast_to(down, (height, width, 3)))
    edges["edge/gradient-across"] = np.ascontiguousarray(np.broadcast_to(across, (height, width, 3)))
    return tuple(edges), np.stack(list(edges.values()))


def _impulse(height: int, width: int, place: tuple[int, int], channels: slice) -> Images:
    image = np.zeros((height, width, 3), np.uint8)
    image[place[0], place[1], channels] = 255
    return image


def draw(targets: npt.NDArray[np.integer], images: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw test images without repetition, one of each class in turn, so that the first few already hold every class.

    Args:
        targets: class of each test image, ``[n]``.
        images: how many to draw; all of them where there are fewer.
        seed: decides which, and the order of the classes.

    Returns:
        int64 positions in the test split, ``[min(images, n)]``.

    Raises:
        RecipeError: no image is asked for.
    """
    if images < 1:
        raise RecipeError(f"{images} test images prove nothing: compare on 1 or more (default 512).")
    random = np.random.default_rng(seed)
    order = random.permutation(len(targets))
    shuffled = targets[order]
    turn = np.empty(len(targets), np.int64)
    rank = np.empty(len(targets), np.int64)
    classes = np.unique(targets)
    for position, label in zip(random.permutation(len(classes)), classes, strict=True):
        members = np.flatnonzero(shuffled == label)
        turn[members] = np.arange(len(members))
        rank[members] = position
    return np.asarray(order[np.lexsort((rank, turn))][:images], np.int64)


def batches(test_images: int, edge_inputs: int, sizes: Sequence[int] = BATCH_SIZES) -> Iterator[Batch]:
    """Yield which inputs are run together at each batch size, in the order of ``sizes``.

    Every input is in a batch of ``MAIN_BATCH``. Where there are fewer inputs than a batch holds, they are repeated to
    fill it.
    """
    edges = tuple(range(test_images, test_images + edge_inputs))
    for size in sizes:
        limit = test_images if size == MAIN_BATCH else OTHER_BATCHES[size]
        rows = tuple(range(min(test_images, limit))) + edges
        while len(rows) < size:
            rows += rows[: size - len(rows)]
        for start in range(0, len(rows), size):
            yield Batch(size, rows[start : start + size])
