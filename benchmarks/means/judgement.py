"""What each means gave beside today's recipe, image by image."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.harness.report import Table
from benchmarks.means.catalogue import MEANS, Means
from benchmarks.training_outcome import Outcome
from toolkit.compare.paired import paired_interval
from toolkit.results import Interval


@dataclass(frozen=True)
class Gain:
    """A means against today's recipe over all seeds.

    Attributes:
        means: what was changed.
        differences: of the accuracy, a seed each.
        interval: 95%, of the mean difference, over the images of all seeds, paired.
        cost: its processor time over that of today's recipe, the median over the seeds.
        epochs: that were made on average.
    """

    means: Means
    differences: tuple[float, ...]
    interval: Interval
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
    pairs = [(after.right, before.right) for after, before in zip(changed, baseline, strict=True)]
    after, before = (np.concatenate(side) for side in zip(*pairs, strict=True))
    counts = [int(chosen.sum()) for chosen in (after & before, after & ~before, ~after & before, ~after & ~before)]
    return Gain(
        means=means,
        differences=tuple(float(ours.mean() - theirs.mean()) for ours, theirs in pairs),
        interval=paired_interval(counts[0], counts[1], counts[2], counts[3]),
        cost=statistics.median(
            ours.cpu_seconds / theirs.cpu_seconds for ours, theirs in zip(changed, baseline, strict=True)
        ),
        epochs=statistics.fmean(outcome.epochs for outcome in changed),
    )


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
                f"{100 * statistics.fmean(each.differences):+.2f} "
                f"[{100 * each.interval.low:+.2f}, {100 * each.interval.high:+.2f}]",
                ", ".join(f"{100 * difference:+.2f}" for difference in each.differences),
                f"{each.cost:.2f}x",
                f"{each.epochs:g}",
                each.verdict,
            )
            for each in sorted(gains, key=lambda each: -statistics.fmean(each.differences))
        ],
    )
