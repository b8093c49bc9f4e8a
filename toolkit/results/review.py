"""What a person should look at: mistakes, labels that are probably wrong, calibration: ``review.json``."""

from __future__ import annotations

from typing import Literal

from toolkit.results.record import Record


class ReviewedImage(Record):
    """One image, and what the network says to it."""

    split: str
    name: str
    """The file, relative to the folder of the data, or the image's position where the source has no files."""
    label: str
    """What the data says."""
    predicted: str
    """The most probable class."""
    probability: float
    """Of ``predicted``."""
    label_probability: float
    """Of ``label``."""
    thumbnail: str | None
    """A JPEG file below the run's folder, with forward slashes; None where none was kept."""


class ConfusedPair(Record):
    """Images of one class that were taken for another."""

    label: str
    predicted: str
    count: int


class LabelIssues(Record):
    """Labels that are probably wrong, ranked by confident learning (Northcutt et al. 2021, arXiv:1911.00068)."""

    looked_at: int
    """Images."""
    estimated_wrong: int
    """How many labels are more improbable than the classifier should meet; at least so many look wrong. Fewer or more
    are among ``suspects``."""
    folds: int
    """The probabilities of an image are those of a classifier that was not trained on it."""
    features: str
    """What that classifier sees, as a phrase."""
    suspects: tuple[ReviewedImage, ...]
    """The most suspect ones first; ``probability`` and ``label_probability`` are out of fold."""
    accuracy: float = 1.0
    """Share of the images whose label is that classifier's most probable class: where it is low, images that are hard
    for it are among the suspects."""
    limits: tuple[str, ...]
    """What this estimate cannot tell, a sentence each."""


class CalibrationBin(Record):
    """Test images whose most probable class has a probability in one range."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean probability of the predicted class."""
    accuracy: float


class Review(Record):
    """Made at the end of fine-tuning."""

    mistakes: tuple[ReviewedImage, ...]
    """Test images that are predicted wrongly, the most confident first, at most as many as were kept."""
    mistakes_in_all: int
    pairs: tuple[ConfusedPair, ...]
    """The most frequent first."""
    calibration: tuple[CalibrationBin, ...]
    """15 equal-width bins (Guo et al. 2017); empty ones are left out."""
    label_issues: LabelIssues | None
    """None where this was not looked for; ``not_looked`` says why."""
    not_looked: str | None = None
    class_images: dict[Literal["train", "validation", "test"], tuple[int, ...]]
    """Images of each class in the order of the labels."""
