"""What the measured ways say of the rule that toolkit chooses by, as claims and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.depthwise.measuring import TYPES, Measured
from benchmarks.depthwise.ways import WAYS
from benchmarks.harness.report import Claim, Table
from toolkit.training.depthwise import choose_way

EQUAL = {"float32": 1e-5, "bfloat16": 2**-6}
"""Of the largest gradient; how far a way may be from float64."""
SLOWER = 1.1
"""How many times the seconds of the fastest way the chosen one may take."""


def claims(found: Sequence[Measured], instructions: str) -> list[Claim]:
    """Judge: all ways compute the same, and the rule takes one that is as good as the fastest."""
    off = {kind: max((max(each.errors.values()) for each in found if each.kind == kind), default=0.0) for kind in TYPES}
    slowest = {kind: _slowest([each for each in found if each.kind == kind], instructions) for kind in TYPES}
    return [
        *(
            Claim(f"all ways compute the same in {kind}", f"{off[kind]:.1e} of the largest gradient", off[kind] < least)
            for kind, least in EQUAL.items()
        ),
        *(
            Claim(
                f"in {kind}, what the rule takes is nowhere slower than {SLOWER:.1f}x the better of the two that it "
                "chooses between",
                f"{ratio:.2f}x",
                ratio <= SLOWER,
            )
            for kind, ratio in slowest.items()
        ),
    ]


def _slowest(found: Sequence[Measured], instructions: str) -> float:
    """Return the largest ratio of the time of what the rule takes to that of the better of its two ways."""
    ratios = [
        each.spent(choose_way(each.shape, instructions)).median
        / min(each.spent(way).median for way in ("pytorch", "products") if way in each.seconds)
        for each in found
    ]
    return max(ratios, default=1.0)


def table(found: Sequence[Measured], instructions: str) -> Table:
    """Write out a row per shape and type, milliseconds per call."""
    rows = [
        (
            str(each.shape.channels),
            *(" x ".join(map(str, pair)) for pair in (each.shape.size, each.shape.kernel, each.shape.stride)),
            each.kind,
            *(f"{each.spent(way).median:.2f}" if way in each.seconds else "" for way in WAYS),
            each.fastest,
            choose_way(each.shape, instructions),
        )
        for each in found
    ]
    return Table(("channels", "map", "kernel", "stride", "type", *WAYS, "fastest", "the rule takes"), rows)
