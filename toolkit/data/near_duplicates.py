"""The same picture in another encoding, at another size or slightly cropped.

Perceptual hashes of ImageHash find candidates; the pixels, laid over each other, decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
from PIL import Image

from toolkit.data.batches import load_ahead
from toolkit.distribution import install_hint
from toolkit.errors import MissingDependencyError
from toolkit.preprocess import ImageSource, decode
from toolkit.progress import Reporter

FARTHEST = 32
"""Bits of the 128 in which the hashes of two candidates may differ."""
LEAST_CORRELATION = 0.985
"""Of the pixels of the same picture, once laid over each other."""
SMALLEST_SIDE = 16
"""Pixels. Smaller pictures hold too little to tell a copy from a picture that is merely alike."""
WINDOW = 0.06
"""Of each side: what the second hash of every image leaves out around it, so that a cropped copy is found."""

_CROPS = (0.03, 0.06, 0.09, 0.12)
_REDUCED_SIDE = 256
_THUMB_SIDE = 32
_COMPARED_SIDE = 16
_BLOCK = 1024
_PREFETCH = 16

Box = tuple[float, float, float, float]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Look:
    """What an image looks like.

    Attributes:
        hashes: of the whole and of its middle, -1 or 1, float32 ``[2, 128]``.
        thumb: ``_THUMB_SIDE`` pixels a side.
    """

    hashes: Floats
    thumb: Image.Image


def require_imagehash() -> None:
    """Refuse to look for near duplicates without what finds them.

    Raises:
        MissingDependencyError: ImageHash is not installed.
    """
    if find_spec("imagehash") is None:
        raise MissingDependencyError(
            f"--check-duplicates needs ImageHash, which is not installed: {install_hint('duplicates')}"
        )


def near_pairs(images: Sequence[ImageSource], reporter: Reporter, workers: int) -> list[tuple[int, int]]:
    """Return the pairs of images that show the same picture, as ascending indices.

    Args:
        images: of different contents.
        reporter: where progress goes.
        workers: decoding threads.

    Raises:
        MissingDependencyError: ImageHash is not installed.
        ImageError: an image cannot be decoded.
    """
    require_imagehash()
    looks: dict[int, _Look] = {}
    with reporter.bar("looking for near duplicates", len(images), "img") as bar:
        for index, look in enumerate(load_ahead(_look, images, workers=workers, prefetch=_PREFETCH)):
            if look is not None:
                looks[index] = look
            bar.advance(1)
    if small := len(images) - len(looks):
        reporter.line(
            f"{small} of {len(images)} images are smaller than {SMALLEST_SIDE} pixels: no near duplicates are looked "
            "for among them"
        )
    numbers = np.array(list(looks), np.int64)
    kept = list(looks.values())
    pairs = np.array(list(_candidates(kept)), np.int64).reshape(-1, 2)
    chosen = pairs[_correlation(kept, pairs) >= LEAST_CORRELATION]
    return [(int(first), int(second)) for first, second in numbers[chosen]]


def _look(source: ImageSource) -> _Look | None:
    from imagehash import dhash, phash

    image = Image.fromarray(decode(source))
    if min(image.size) < SMALLEST_SIDE:
        return None
    image = image.reduce(max(1, min(image.size) // _REDUCED_SIDE))
    middle = image.resize((_REDUCED_SIDE, _REDUCED_SIDE), box=_box(image.size, WINDOW, 0.5, 0.5))
    bits = [np.concatenate([phash(part).hash.ravel(), dhash(part).hash.ravel()]) for part in (image, middle)]
    return _Look(
        np.where(bits, 1, -1).astype(np.float32),
        image.resize((_THUMB_SIDE, _THUMB_SIDE), Image.Resampling.BILINEAR),
    )


def _candidates(looks: Sequence[_Look]) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose hashes are close: whole and whole, or the whole of one and the middle of the other."""
    if not looks:
        return
    whole, middle = (np.stack([look.hashes[part] for look in looks]) for part in (0, 1))
    least = whole.shape[1] - 2 * FARTHEST
    for start in range(0, len(looks), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # The product of two hashes of -1 and 1 is the equal bits less the others.
        products = (whole[rows] @ whole[start:].T, whole[rows] @ middle[start:].T, middle[rows] @ whole[start:].T)
        close = (products[0] >= least) | (products[1] >= least) | (products[2] >= least)
        for first, second in zip(*np.nonzero(np.triu(close, 1)), strict=True):
            yield start + int(first), start + int(second)


def _correlation(looks: Sequence[_Look], pairs: npt.NDArray[np.int64]) -> Floats:
    """Return for each pair the best correlation of one image with a window of the other, float32 ``[n]``."""
    best = np.zeros(len(pairs), np.float32)
    whole = {index: _pixels(looks[index].thumb) for index in np.unique(pairs).tolist()}
    for side in (0, 1):
        order = np.argsort(pairs[:, side], kind="stable")
        starts = np.flatnonzero(np.diff(pairs[order, side], prepend=-1))
        for members in np.split(order, starts[1:]) if len(order) else ():
            thumb = looks[int(pairs[members[0], side])].thumb
            windows = np.stack([_pixels(thumb, box) for box in _boxes(thumb.size)])
            others = np.stack([whole[index] for index in pairs[members, 1 - side].tolist()])
            best[members] = np.maximum(best[members], (windows @ others.T).max(axis=0))
    return best


def _pixels(thumb: Image.Image, box: Box | None = None) -> Floats:
    """Return pixels of mean 0 and length 1; all 0 where there is nothing but one grey."""
    small = thumb.resize((_COMPARED_SIDE, _COMPARED_SIDE), Image.Resampling.BILINEAR, box=box)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > len(values) ** 0.5 else np.zeros_like(values)


def _boxes(size: tuple[int, int]) -> Iterator[Box]:
    """Yield the whole, and smaller windows in nine positions."""
    yield _box(size, 0.0, 0.0, 0.0)
    for crop in _CROPS:
        for down in (0.0, 0.5, 1.0):
            for right in (0.0, 0.5, 1.0):
                yield _box(size, crop, right, down)


def _box(size: tuple[int, int], crop: float, right: float, down: float) -> Box:
    """Return the window that leaves out ``crop`` of each side, at a share of what is left out."""
    width, height = size
    return (
        width * crop * right,
        height * crop * down,
        width * (1 - crop * (1 - right)),
        height * (1 - crop * (1 - down)),
    )
