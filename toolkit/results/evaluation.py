"""How good a fine-tuned network is on the test images: ``evaluation.json``."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from toolkit.results.record import Interval, Record


class ClassScore(Record):
    """How well one class is recognised."""

    label: str
    support: int
    """Test images of this class."""
    precision: float | None
    """None where the class was never predicted."""
    recall: float | None
    """None where the class has no test image."""


class Evaluation(Record):
    """The one look at the test split at the end of fine-tuning."""

    split: str
    images: int
    top1: float
    """Share of images whose most probable class is right."""
    top1_interval: Interval
    """Wilson score interval (Wilson 1927) of ``top1``."""
    top5: float | None
    """None where there are fewer than 6 classes: it would be 1 or nearly so whatever the model."""
    loss: float
    """Mean negative log likelihood of the true class, in nats."""
    expected_calibration_error: float
    """Over 15 equal-width confidence bins (Guo et al. 2017)."""
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """``confusion[i][j]``: test images of class i that were predicted as class j."""

    @model_validator(mode="after")
    def _has_a_row_and_a_column_per_class(self) -> Self:
        sizes = {len(self.confusion), *(len(row) for row in self.confusion)}
        if self.confusion and sizes != {len(self.classes)}:
            raise ValueError(f"the confusion matrix is not one of {len(self.classes)} classes")
        return self
