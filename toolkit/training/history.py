"""``history.csv``: one line per epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from toolkit.files import write_text


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    stage: int
    epoch: int
    """1 for the first epoch of its stage."""
    train_loss: float
    """Mean over the epoch's training images, as they were seen, with the weights changing meanwhile."""
    train_accuracy: float
    validation_loss: float
    """Mean negative log likelihood over the validation images after the epoch."""
    validation_accuracy: float
    head_lr: float
    """Rate of the head at the last step."""
    backbone_lr: float
    """Rate of the unfrozen blocks at the last step; 0 where none is unfrozen."""
    seconds: float


def write_history(path: Path, epochs: Sequence[Epoch]) -> None:
    """Write the whole table, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in asdict(epoch).items()}
        for epoch in epochs
    )
    write_text(path, text.getvalue())
