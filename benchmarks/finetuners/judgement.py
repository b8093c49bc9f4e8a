"""What the runs of all seeds say: toolkit against its peers in time and accuracy, as claims and as tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.finetuners.arena import MODULES, OURS, PEERS, Round
from benchmarks.harness.figures import megabytes, percent, spread
from benchmarks.harness.report import Claim, Table
from toolkit.compare.paired import fourfold, paired_interval
from toolkit.compare.ratios import Ratio, paired_ratio
from toolkit.results import Interval

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Accuracy of toolkit minus that of a peer, on the same test images.

    Attributes:
        mean: over the seeds.
        interval: 95%, paired image by image; the images are counted once, whatever the number of seeds.
        each: of every seed.
    """

    mean: float
    interval: Interval
    each: tuple[float, ...]

    def __str__(self) -> str:
        low, high = 100 * self.interval.low, 100 * self.interval.high
        seeds = ", ".join(f"{100 * one:+.2f}" for one in self.each)
        return f"{100 * self.mean:+.2f} points [{low:+.2f}, {high:+.2f}] (seed by seed {seeds})"


def shorter(rounds: Sequence[Round], peer: str) -> Ratio | None:
    """Return how many times sooner toolkit is where a peer ends, over the seeds; None if it is not in every one.

    The interval has 95% where there are seeds enough for it, else the most that so few can have: that of the smallest
    and the largest.
    """
    ours, theirs = [], []
    for each in rounds:
        seconds = each[OURS].seconds_to(each[peer].end.accuracy)
        if seconds is None:
            return None
        ours.append(seconds)
        theirs.append(each[peer].end.seconds)
    return paired_ratio(ours, theirs, level_of(len(rounds)))


def level_of(seeds: int) -> float:
    """Return the confidence level that an interval over so many seeds has."""
    return min(LEVEL, 1 - 2.0 ** (1 - seeds))


def difference(rounds: Sequence[Round], peer: str) -> Difference:
    """Return how much more accurate toolkit is in the end."""
    counts = np.array([fourfold(each[peer].right, each[OURS].right) for each in rounds])
    images = int(counts[0].sum())
    _, lost, won, neither = (round(float(count)) for count in counts.mean(axis=0))
    each = (counts[:, 2] - counts[:, 1]) / images
    return Difference(
        mean=float(each.mean()),
        interval=paired_interval(max(0, images - lost - won - neither), won, lost, neither),
        each=tuple(map(float, each)),
    )


def claims(rounds: Sequence[Round], speedup: float) -> list[Claim]:
    """Judge time and accuracy beside each peer."""
    made = []
    for peer in PEERS:
        ratio, apart = shorter(rounds, peer), difference(rounds, peer)
        made += [
            Claim(
                f"the time to the accuracy at which {peer} ends is at least {speedup:g}x shorter",
                "toolkit does not reach it in every seed" if ratio is None else _times(ratio, len(rounds)),
                ratio is not None and ratio.ratio >= speedup,
            ),
            Claim(
                f"final accuracy no worse than that of {peer}: the 95% interval of the difference does not lie wholly "
                "below zero",
                str(apart),
                apart.interval.high >= 0,
            ),
        ]
    return made


def _times(ratio: Ratio, seeds: int) -> str:
    if ratio.interval is None or seeds == 1:
        return f"{ratio.ratio:.2f}x (of one seed)"
    interval = f"[{ratio.interval.low:.2f}, {ratio.interval.high:.2f}]"
    return f"{ratio.ratio:.2f}x {interval} ({ratio.interval.level:.0%} over {seeds} seeds)"


def tables(rounds: Sequence[Round]) -> list[Table]:
    """Write out the sides, each seed, and the curves."""
    images = len(rounds[0][OURS].right)
    sides = [
        (
            side,
            str(spread([each[side].end.seconds for each in rounds])),
            str(spread([each[side].run.seconds for each in rounds])),
            percent(statistics.fmean(each[side].end.accuracy for each in rounds), images),
            megabytes(*(each[side].run.peak_bytes for each in rounds)),
            megabytes(*(each[side].run.tree_bytes for each in rounds)),
        )
        for side in MODULES
    ]
    reached = [
        (str(seed), peer, f"{each[peer].end.accuracy:.2%}", f"{each[peer].end.seconds:.1f}", *_reached(each, peer))
        for seed, each in enumerate(rounds)
        for peer in PEERS
    ]
    curves = [
        (str(seed), side, ", ".join(f"{point.seconds:.0f} s {point.accuracy:.1%}" for point in each[side].curve))
        for seed, each in enumerate(rounds)
        for side in MODULES
    ]
    return [
        Table(
            (
                "side",
                "to the end of the last epoch, s",
                "whole process, s",
                "test accuracy [95%]",
                "peak of the largest process, MB",
                "all processes, anonymous, MB",
            ),
            sides,
        ),
        Table(("seed", "peer", "ends at", "after, s", "toolkit is there after, s", "times shorter"), reached),
        Table(("seed", "side", "after each epoch"), curves),
    ]


def _reached(each: Round, peer: str) -> tuple[str, str]:
    seconds = each[OURS].seconds_to(each[peer].end.accuracy)
    if seconds is None:
        return f"never: at most {max(point.accuracy for point in each[OURS].curve):.2%}", "-"
    return f"{seconds:.1f}", f"{each[peer].end.seconds / seconds:.2f}x"
