"""Batches in a given order, decoded ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from toolkit.data.dataset import Split
from toolkit.errors import require_count
from toolkit.preprocess import WHOLE, Part, Preprocessing

Piece = TypeVar("Piece")
Loaded = TypeVar("Loaded")
Images: TypeAlias = npt.NDArray[np.uint8]
Indices: TypeAlias = npt.NDArray[np.int64]
Augment: TypeAlias = Callable[[Images, Indices], Images]
"""Changes images (uint8 ``[b, H, W, 3]``) given their indices in the split (int64 ``[b]``); called from several
threads."""
Crop: TypeAlias = Callable[[Indices], Sequence[Part]]
"""Returns which part is taken of each image, given their indices in the split (int64 ``[b]``); called from several
threads."""


@dataclass(frozen=True)
class View:
    """How images are changed before they are trained on.

    Attributes:
        crop: which part of each is taken, of its decoded pixels; None for the whole.
        augment: what changes the prepared pixels; None for nothing.
    """

    crop: Crop | None = None
    augment: Augment | None = None


AS_IT_IS = View()


def iterate_batches(
    split: Split,
    order: Indices,
    batch_size: int,
    preprocessing: Preprocessing,
    *,
    view: View = AS_IT_IS,
    workers: int = 2,
    prefetch: int = 4,
) -> Iterator[tuple[Images, Indices, Indices]]:
    """Yield the images of a split in a given order.

    Threads decode ahead, because Pillow works outside the interpreter's lock; at most ``prefetch`` batches wait in
    memory. They stop when the consumer stops, also by an error or early.

    Args:
        split: where the images are.
        order: indices into the split, int64 ``[n]``; one may stand in it several times.
        batch_size: images per batch; the last batch holds the rest.
        preprocessing: how images become the model's input.
        view: how the images are changed.
        workers: decoding threads.
        prefetch: batches being decoded or ready, at least 1.

    Yields:
        Images uint8 ``[b, H, W, 3]``, targets int64 ``[b]``, indices int64 ``[b]``.

    Raises:
        ImageError: a file has gone or changed since it was scanned.
        ToolkitError: ``batch_size``, ``workers`` or ``prefetch`` is no whole number of at least 1.
    """
    require_count("batch_size", batch_size)

    def load(indices: Indices) -> tuple[Images, Indices, Indices]:
        (images,) = load_views(split, indices, preprocessing, [view])
        return images, split.targets[indices], indices

    pieces = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return load_ahead(load, pieces, workers=workers, prefetch=prefetch)


def load_views(split: Split, indices: Indices, preprocessing: Preprocessing, views: Sequence[View]) -> list[Images]:
    """Decode some images once each and return every view of them.

    Args:
        split: where the images are.
        indices: of the images, int64 ``[b]``.
        preprocessing: how images become the model's input.
        views: how they are changed.

    Returns:
        uint8 ``[b, H, W, 3]`` for each view.

    Raises:
        ImageError: a file has gone or changed since it was scanned.
    """
    if any(view.crop for view in views):
        whole = [WHOLE] * len(indices)
        parts = [view.crop(indices) if view.crop else whole for view in views]
        loaded = list(split.load_parts(indices, preprocessing, list(zip(*parts, strict=True))))
    else:
        loaded = [split.load(indices, preprocessing)] * len(views)
    return [
        images if view.augment is None else view.augment(images, indices)
        for view, images in zip(views, loaded, strict=True)
    ]


def load_ahead(
    load: Callable[[Piece], Loaded], pieces: Iterable[Piece], *, workers: int, prefetch: int
) -> Iterator[Loaded]:
    """Yield ``load(piece)`` for each piece in order, computed by threads ahead of the consumer.

    At most ``prefetch`` results wait in memory. The threads stop when the consumer stops, also by an error or early; an
    error in ``load`` is raised where its result would have been yielded.

    Raises:
        ToolkitError: ``workers`` or ``prefetch`` is no whole number of at least 1.
    """
    require_count("workers", workers)
    require_count("prefetch", prefetch)
    return _ahead(load, pieces, workers, prefetch)


def _ahead(load: Callable[[Piece], Loaded], pieces: Iterable[Piece], workers: int, prefetch: int) -> Iterator[Loaded]:
    remaining = iter(pieces)
    waiting: deque[Future[Loaded]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="toolkit-load")
    try:
        while True:
            for piece in islice(remaining, prefetch - len(waiting)):
                waiting.append(executor.submit(load, piece))
            if not waiting:
                return
            # Nothing here keeps a batch once it is handed over, so that memory is bounded by what waits.
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
