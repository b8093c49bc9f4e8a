"""A step of training in float32 and in bfloat16, in turns: what ``--precision auto`` takes, and what it gains.

The trained part of a network behind its frozen frontier, with random weights and random activations. On a CPU grouped
convolutions are computed in float32 on both sides (``toolkit.training.precision``).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from benchmarks.harness.command_line import main
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import spread
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.trained_part import make_step, steps_parser, turn
from toolkit.training.depthwise import instruction_set
from toolkit.training.precision import Precision, multiplies_bfloat16
from toolkit.training.step import Learner

NAME = "training_precision"
BACKBONES = (
    "timm:tf_efficientnet_lite0,timm:tf_efficientnet_lite2,torchvision:mobilenet_v2,torchvision:mobilenet_v3_large,"
    "torchvision:efficientnet_b0,torchvision:shufflenet_v2_x1_0,torchvision:regnet_y_400mf,"
    "torchvision:resnext50_32x4d,torchvision:convnext_tiny,torchvision:resnet18,timm:vit_tiny_patch16_224"
)
SIDES = ("float32", "bfloat16")
WIDE, NARROW = SIDES
SLOWER = 0.95
"""The share of the speed in float32 that what ``auto`` takes has at least, on every network."""
FAR = 0.02
"""How far the losses of a step may be from each other, as a share."""


@dataclass(frozen=True)
class Measured:
    """Both sides on one network at one size.

    Attributes:
        auto: what ``--precision auto`` takes here.
        difference: of the loss of a step with the same weights, as a share.
        speeds: by side, images per second of each round.
    """

    backbone: str
    size: int
    auto: str
    difference: float
    speeds: dict[str, list[float]]

    @property
    def gain(self) -> float:
        """The median over the rounds of the ratio of the two sides, which ran one after the other."""
        sides = zip(self.speeds[NARROW], self.speeds[WIDE], strict=True)
        return statistics.median([narrow / wide for narrow, wide in sides])

    @property
    def gain_of_auto(self) -> float:
        """What ``auto`` gains: nothing where it takes float32."""
        return self.gain if self.auto == NARROW else 1.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = steps_parser(NAME, __doc__, BACKBONES, rounds=7, seconds=0.5)
    # What make_step is told: it says what auto takes.
    parser.set_defaults(precision="auto")
    return parser.parse_args(arguments)


def both(learner: Learner) -> dict[str, Learner]:
    """Return the learners of both sides."""
    return {side: replace(learner, precision=Precision(side, torch.device("cpu"))) for side in SIDES}


def measured(backbone: str, size: int, options: argparse.Namespace) -> Measured:
    """Let the sides take turns on one network, each round in another order."""
    step = make_step(backbone, size, options, both)
    wide, narrow = (step.make(side) for side in SIDES)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    order = np.random.default_rng(0)
    for _ in range(options.rounds):
        for side in order.permutation(SIDES):
            speeds[side].append(turn(step, str(side), options.seconds))
    found = Measured(backbone, size, step.precision, abs(narrow - wide) / abs(wide), speeds)
    print(f"{backbone} at {size} px: bfloat16 {found.gain:.2f}x", flush=True)
    return found


def claims(networks: Sequence[Measured]) -> list[Claim]:
    """Judge: what auto takes is nowhere slower, and bfloat16 computes the same loss but for rounding."""
    slowest, farthest = min(each.gain_of_auto for each in networks), max(each.difference for each in networks)
    return [
        Claim(f"auto is nowhere slower than {SLOWER:.0%} of float32", f"{slowest:.2f}x", slowest >= SLOWER),
        Claim(f"losses of a step at most {FAR:.0%} apart", f"{farthest:.1%}", farthest <= FAR),
    ]


def row(each: Measured) -> tuple[str, ...]:
    """Write out one network at one size."""
    wide, narrow = (spread(each.speeds[side]) for side in SIDES)
    return (
        each.backbone,
        f"{each.size} px",
        f"{wide:.0f}",
        f"{narrow:.0f}",
        f"{each.gain:.2f}x",
        each.auto,
    )


def benchmark(arguments: Sequence[str]) -> int:
    """Measure every network at every size and write the report."""
    options = parse(arguments)
    if not multiplies_bfloat16():
        raise BenchmarkError(
            "this processor has no instructions that multiply bfloat16, auto takes float32: measure on one with "
            "AVX-512 BF16 or AMX."
        )
    torch.set_num_threads(options.threads)
    networks = [
        measured(backbone, int(size), options)
        for backbone in options.backbones.split(",")
        for size in options.sizes.split(",")
    ]
    return finish(
        Report(
            name=NAME,
            script=NAME,
            title="A step of training in float32 and in bfloat16",
            settings={
                "batch size": options.batch_size,
                "unfrozen blocks": options.unfreeze,
                "threads": options.threads,
                "rounds": options.rounds,
                "instruction set": instruction_set(),
            },
            claims=claims(networks),
            tables=[
                Table(
                    ("network", "images", "float32, img/s", "bfloat16, img/s", "ratio", "what auto takes"),
                    [row(each) for each in networks],
                )
            ],
            notes=[
                "The part behind the frozen frontier, the last blocks and the head trained; grouped convolutions in "
                "float32 on both sides. Median over the rounds, with the smallest and the largest. The sides took "
                "turns, each round in another order; the ratio is the median over the rounds of theirs.",
            ],
            measurements={"networks": [asdict(each) for each in networks]},
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
