"""Some of the images of a split, as a split of their own, and training that sees these alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from toolkit.data import Dataset, Split


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


@contextmanager
def instead(dataset: Dataset) -> Iterator[None]:
    """Have training load this data, whatever its recipe says."""
    with patch("toolkit.training.setting.load_dataset", lambda *_, **__: dataset):
        yield
