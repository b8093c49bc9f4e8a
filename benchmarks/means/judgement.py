"""What each means gave beside today's recipe, image by image."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from benchmarks.harness.report import Table
from benchmarks.means.catalogue import MEANS, Means
from benchmarks.training_outcome import Outcome
from toolkit.results import Interval

LEVEL = 0.95


@dataclass(frozen=True)
class Gain:
    """A means against today's recipe over all seeds.

    Attributes:
        means: what was changed.
        difference: of the accuracy, over the images that were held out: each counts once, with its mean over the seeds
            in which it was.
        interval: 95%, of that.
        differences: of the accuracy, a seed each.
        cost: its processor time over that of today's recipe, the median over the seeds.
        epochs: that were made on average.
    """

    means: Means
    difference: float
    interval: Interval
    differences: tuple[float, ...]
    cost: float
    epochs: float

    @property
    def verdict(self) -> str:
        """Whether it gains anything that these images can tell."""
        if self.interval.low > 0:
            return "gains"
        return "loses" if self.interval.high < 0 else "cannot be told"


def gain(means: Means, baseline: Sequence[Outcome], changed: Sequence[Outcome]) -> Gain:
    """Compare the two seed by seed and image by image."""
    pairs = list(zip(changed, baseline, strict=True))
    of_images = differences_of_images(pairs)
    return Gain(
        means=means,
        difference=float(of_images.mean()),
        interval=interval_over_images(of_images),
        differences=tuple(after.accuracy - before.accuracy for after, before in pairs),
        cost=statistics.median(after.cpu_seconds / before.cpu_seconds for after, before in pairs),
        epochs=statistics.fmean(outcome.epochs for outcome in changed),
    )


def differences_of_images(pairs: Sequence[tuple[Outcome, Outcome]]) -> npt.NDArray[np.float64]:
    """Return of each image how much more often the first is right, float64 ``[images]`` within -1 and 1.

    The mean over the seeds in which it was held out: two networks that judge one image are not two images.

    Args:
        pairs: two outcomes of the same images, a pair for each seed.
    """
    names = np.concatenate([before.names for _, before in pairs])
    differences = np.concatenate([after.right.astype(np.float64) - before.right for after, before in pairs])
    _, image = np.unique(names, return_inverse=True)
    return np.asarray(np.bincount(image, weights=differences) / np.bincount(image), np.float64)


def interval_over_images(differences: npt.NDArray[np.float64]) -> Interval:
    """Return the interval of the mean of independent images' differences.

    The adjusted Wald interval of paired proportions of Bonett and Price 2012, Journal of Educational and Behavioral
    Statistics 37:479-488: that of the mean once an image that is won and one that is lost have been added. It takes any
    differences within -1 and 1, and so those that are means over several seeds.

    Args:
        differences: of each image, ``[images]``.
    """
    adjusted = np.append(differences, [1.0, -1.0])
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * float(adjusted.std()) / math.sqrt(len(adjusted))
    mean = float(adjusted.mean())
    return Interval(low=max(-1.0, mean - half), high=min(1.0, mean + half), level=LEVEL)


@dataclass
class Measured:
    """What all sides made of all seeds.

    Attributes:
        baseline: today's recipe, a seed each.
        changed: the means by name, a seed each.
        refused: means that could not be trained, and why: the others are no worse for it.
        repeats: whether today's recipe gave the same logits bit for bit when it was trained again.
    """

    baseline: list[Outcome] = field(default_factory=list)
    changed: dict[str, list[Outcome]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    repeats: bool = True

    @property
    def images(self) -> int:
        """How many images were held out in some seed."""
        return len({name for outcome in self.baseline for name in outcome.names})

    @property
    def gains(self) -> list[Gain]:
        """The means that were trained in all seeds."""
        return [
            gain(means, self.baseline, self.changed[means.name])
            for means in MEANS
            if means.name in self.changed and means.name not in self.refused
        ]


def table(gains: Sequence[Gain]) -> Table:
    """Write out a row per means, what gained most first."""
    return Table(
        ("means", "difference in points [95%]", "seed by seed", "processor time", "epochs", "verdict"),
        [
            (
                each.means.text,
                f"{100 * each.difference:+.2f} [{100 * each.interval.low:+.2f}, {100 * each.interval.high:+.2f}]",
                ", ".join(f"{100 * difference:+.2f}" for difference in each.differences),
                f"{each.cost:.2f}x",
                f"{each.epochs:g}",
                each.verdict,
            )
            for each in sorted(gains, key=lambda each: -each.difference)
        ],
    )
