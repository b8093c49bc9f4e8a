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


class Leak(Record):
    """The images of a split that training has seen, or that the choice of the weights was made by."""

    images: int
    """Images of this split that are in an earlier one too."""
    near: int
    """How many of them are re-encoded, resized or cropped; 0 also where these were not looked for."""
    seen_in: tuple[str, ...]
    """The earlier splits."""
    top1_without: float | None
    """Share of the other images whose most probable class is right; None where there are no others."""
    top1_without_interval: Interval | None
    """Its Wilson score interval."""


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
    leak: Leak | None = None
    """None where no image is in an earlier split too, or where this was not looked at."""

    @model_validator(mode="after")
    def _has_a_row_and_a_column_per_class(self) -> Self:
        sizes = {len(self.confusion), *(len(row) for row in self.confusion)}
        if self.confusion and sizes != {len(self.classes)}:
            raise ValueError(f"the confusion matrix is not one of {len(self.classes)} classes")
        return self
