"""``history.csv``: one line per epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from toolkit.errors import RunError
from toolkit.files import read_text, write_text
from toolkit.run_folder import RunFolder


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    stage: int
    epoch: int
    """1 for the first epoch of its stage."""
    train_loss: float
    """Mean over the epoch's training images, as they were seen, with the weights changing meanwhile."""
    train_accuracy: float
    """Over the same images; one that mixup or cutmix blended counts as that of which it has more."""
    validation_loss: float
    """Mean negative log likelihood over the validation images after the epoch."""
    validation_accuracy: float
    head_lr: float
    """Rate of the head at the last step."""
    backbone_lr: float
    """Rate of the unfrozen blocks at the last step; 0 where none is unfrozen."""
    seconds: float


EpochObserver = Callable[[RunFolder, Sequence[Epoch]], None]
"""Told of a run before its first step, and whenever it is saved, with all epochs that have ended so far."""


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


def read_history(path: Path) -> list[Epoch]:
    """Read what ``write_history`` wrote, to six digits.

    Raises:
        RunError: it is missing or malformed.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path))))
        return [
            Epoch(
                stage=int(row["stage"]),
                epoch=int(row["epoch"]),
                **{
                    field.name: float(row[field.name])
                    for field in fields(Epoch)
                    if field.name not in ("stage", "epoch")
                },
            )
            for row in rows
        ]
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): run 'toolkit finetune' first.") from error
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} is not what 'toolkit finetune' writes ({error}): run it again.") from error
