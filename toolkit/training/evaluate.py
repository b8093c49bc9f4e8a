"""Evaluation: running a network over a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from toolkit.data import Split
from toolkit.data.batches import iterate_batches
from toolkit.progress import Bar
from toolkit.training.setting import Setting

EVALUATION_BATCH = 64


def predict_logits(
    setting: Setting, split: Split, logits_of: Callable[[npt.NDArray[np.uint8]], torch.Tensor], bar: Bar
) -> npt.NDArray[np.float32]:
    """Return the logits of every image of a split, float32 ``[n, C]``.

    Args:
        setting: how files become pixels, and how many threads decode.
        split: the images.
        logits_of: returns logits ``[b, C]`` of uint8 ``[b, H, W, 3]``; the network must be in inference mode.
        bar: counts images.
    """
    parts = []
    order = np.arange(len(split), dtype=np.int64)
    with torch.inference_mode():
        for images, _, _ in iterate_batches(
            split, order, EVALUATION_BATCH, setting.preprocessing, workers=setting.threads
        ):
            parts.append(logits_of(images).float().cpu().numpy())
            bar.advance(len(images))
    return np.concatenate(parts)
