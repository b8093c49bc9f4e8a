"""Batches in a given order, decoded ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.data.dataset import Split
from toolkit.preprocess import Preprocessing

Images: TypeAlias = npt.NDArray[np.uint8]
Indices: TypeAlias = npt.NDArray[np.int64]
Augment: TypeAlias = Callable[[Images, Indices], Images]
"""Changes images (uint8 ``[b, H, W, 3]``) given their indices in the split (int64 ``[b]``); called from several threads."""


def iterate_batches(
    split: Split,
    order: Indices,
    batch_size: int,
    preprocessing: Preprocessing,
    *,
    augment: Augment | None = None,
    workers: int = 2,
    prefetch: int = 4,
) -> Iterator[tuple[Images, Indices, Indices]]:
    """Yield the images of a split in a given order.

    Threads decode ahead, because Pillow works outside the interpreter's lock; at most ``prefetch`` batches wait in memory. They stop
    when the consumer stops, also by an error or early.

    Args:
        split: where the images are.
        order: indices into the split, int64 ``[n]``; one may stand in it several times.
        batch_size: images per batch; the last batch holds the rest.
        preprocessing: how images become the model's input.
        augment: applied to each batch after preprocessing.
        workers: decoding threads.
        prefetch: batches being decoded or ready, at least 1.

    Yields:
        Images uint8 ``[b, H, W, 3]``, targets int64 ``[b]``, indices int64 ``[b]``.

    Raises:
        ImageError: a file has gone or changed since it was scanned.
    """

    def load(indices: Indices) -> tuple[Images, Indices, Indices]:
        images = split.load(indices, preprocessing)
        return (images if augment is None else augment(images, indices)), split.targets[indices], indices

    pieces = iter([order[start : start + batch_size] for start in range(0, len(order), batch_size)])
    waiting: deque[Future[tuple[Images, Indices, Indices]]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="toolkit-decode")
    try:
        while True:
            while len(waiting) < prefetch and (piece := next(pieces, None)) is not None:
                waiting.append(executor.submit(load, piece))
            if not waiting:
                return
            # Nothing here keeps a batch once it is handed over, so that memory is bounded by what waits.
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
