"""Running a network over a split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones.deployable import Deployable
from toolkit.data import Split
from toolkit.data.batches import iterate_batches
from toolkit.preprocess import Preprocessing
from toolkit.progress import Bar

EVALUATION_BATCH = 64


def predict_logits(
    network: Deployable, split: Split, preprocessing: Preprocessing, device: torch.device, workers: int, bar: Bar
) -> npt.NDArray[np.float32]:
    """Return the logits of every image of a split, float32 ``[n, C]``. The network must be in inference mode."""
    parts = []
    with torch.inference_mode():
        for images, _, _ in iterate_batches(
            split, np.arange(len(split)), EVALUATION_BATCH, preprocessing, workers=workers
        ):
            logits, _ = network(torch.from_numpy(images).to(device))
            parts.append(logits.cpu().numpy())
            bar.advance(len(images))
    return np.concatenate(parts)
