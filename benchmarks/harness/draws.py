"""Some of the images of a split, as a split of their own."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from toolkit.data import Split


def part_of(split: Split, name: str, chosen: npt.NDArray[np.int64]) -> Split:
    """Return the chosen images of a split, int64 ``[n]``, as a split of a name."""
    return replace(
        split,
        name=name,
        sources=[split.sources[index] for index in chosen],
        targets=split.targets[chosen],
        names=tuple(split.names[index] for index in chosen),
        digests=(),
        fingerprint=hashlib.sha256(f"{split.fingerprint} {chosen.tolist()}".encode()).hexdigest(),
    )
