"""A step of training as it was and as it is, in turns, against the processor's peak.

The trained part of a network behind its frozen frontier, with random weights and random activations: speed does not
depend on them. The sides differ in the weight gradient of depthwise convolutions (``toolkit.training.depthwise``).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness.command_line import main
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.figures import Spread, spread
from benchmarks.harness.report import Claim, Report, Table, finish
from benchmarks.trained_part import Step, make_step, steps_parser, turn
from toolkit.bench.clock import MonotonicClock
from toolkit.bench.peak import fastest_of_engines
from toolkit.training.depthwise import DepthwiseGradients, instruction_set
from toolkit.training.step import Learner

NAME = "training_step"
BACKBONES = "timm:tf_efficientnet_lite0,torchvision:mobilenet_v3_large,torchvision:resnet18,torchvision:convnext_tiny"
SIDES = ("before", "now")
BEFORE, NOW = SIDES
NOTHING = "none"
"""An instruction set that no rule knows: every gradient is PyTorch's."""
WANTED = 1.8
"""How many times as fast a step is to be where ``GAINING`` says."""
GAINING = ("efficientnet_lite0", (64, 128), "AVX2")
SLOWER = 0.95
"""The share of the speed before that every network keeps."""
OF_PEAK = ("resnet18", 0.6)
EQUAL = 1e-5
"""Of the loss; how far the sides may differ after the steps that are compared."""
COMPARED_STEPS = 3
PROFILED = {
    "aten::convolution_backward": "backward of convolutions",
    "aten::convolution": "convolutions",
    "aten::bmm": "products of pairs",
    "aten::native_batch_norm": "BatchNorm",
    "aten::native_batch_norm_backward": "backward of BatchNorm",
}
"""Operators whose time, with all they call, the profile names; none of them calls another."""


@dataclass(frozen=True)
class Measured:
    """Both sides on one network at one size."""

    backbone: str
    size: int
    trained: str
    precision: str
    flops: float
    difference: float
    """Largest relative difference of the loss of a step."""
    speeds: dict[str, list[float]]
    """By side, images per second of each round."""
    shares: dict[str, dict[str, float]]
    """By side and kind of operator, the share of a step."""

    def speed(self, side: str) -> Spread:
        """Return images per second over the rounds."""
        return spread(self.speeds[side])

    @property
    def gain(self) -> float:
        """The median over the rounds of the ratio of the two sides, which ran one after the other."""
        sides = zip(self.speeds[NOW], self.speeds[BEFORE], strict=True)
        return statistics.median([now / before for now, before in sides])

    def rate(self, side: str) -> float:
        """Return floating-point operations per second."""
        return self.speed(side).median * self.flops


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = steps_parser(NAME, __doc__, BACKBONES, rounds=9, seconds=1.0)
    parser.add_argument("--precision", default="float32", choices=("auto", "float32", "bfloat16"))
    return parser.parse_args(arguments)


def both(now: Learner) -> dict[str, Learner]:
    """Return the learners of both sides."""
    return {BEFORE: replace(now, depthwise=DepthwiseGradients(NOTHING)), NOW: now}


def difference(step: Step) -> float:
    """Train each side some steps from the same weights; return how far their losses are from each other.

    The weights are put back.
    """
    module = step.learners[NOW].module
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = []
    for side in SIDES:
        module.load_state_dict(weights)
        learner = step.learners[side]
        parameters = [parameter for group in learner.optimizer.param_groups for parameter in group["params"]]
        fast = replace(learner, optimizer=torch.optim.SGD(parameters, lr=1e-3))
        own = replace(step, learners={side: fast})
        found.append([own.make(side, number) for number in range(COMPARED_STEPS)])
    module.load_state_dict(weights)
    before, now = found
    return max(abs(one - other) / abs(one) for one, other in zip(before, now, strict=True))


def shares_of(step: Step, side: str) -> dict[str, float]:
    """Profile a step and return the share of the time of each kind of operator."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step.make(side)
    events = profiler.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    shares = dict.fromkeys(PROFILED.values(), 0.0)
    for event in events:
        if event.key in PROFILED:
            shares[PROFILED[event.key]] += event.cpu_time_total / whole
    return {**shares, "everything else": max(0.0, 1 - sum(shares.values()))}


def measured(backbone: str, size: int, options: argparse.Namespace) -> Measured:
    """Let the sides take turns on one network, each round in another order."""
    step = make_step(backbone, size, options, both)
    off = difference(step)
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    order = np.random.default_rng(0)
    for side in SIDES:
        step.make(side)
    for _ in range(options.rounds):
        for side in order.permutation(SIDES):
            speeds[side].append(turn(step, str(side), options.seconds))
    found = Measured(
        backbone=backbone,
        size=size,
        trained=step.trained,
        precision=step.precision,
        flops=step.flops,
        difference=off,
        speeds=speeds,
        shares={side: shares_of(step, side) for side in SIDES},
    )
    print(f"{backbone} at {size} px: {found.speed(BEFORE):.0f} before, {found.speed(NOW):.0f} img/s now", flush=True)
    return found


def claims(networks: Sequence[Measured], peak: float, instructions: str) -> list[Claim]:
    """Judge: the same training, faster where it was slow, nowhere slower."""
    off, slowest = max(each.difference for each in networks), min(each.gain for each in networks)
    found = [
        Claim("both sides have the losses of the same training", f"{off:.1e} apart", off < EQUAL),
        Claim(f"no network is slower than {SLOWER:.0%} of before", f"{slowest:.2f}x", slowest >= SLOWER),
    ]
    name, (least, most), processor = GAINING
    gains = [each.gain for each in networks if name in each.backbone and least <= each.size <= most]
    if gains and instructions == processor:
        found.append(Claim(f"{name} at {least} to {most} px: {WANTED}x", f"{min(gains):.2f}x", min(gains) >= WANTED))
    name, share = OF_PEAK
    shares = [each.rate(NOW) / peak for each in networks if name in each.backbone]
    if shares:
        found.append(Claim(f"{name}: {share:.0%} of the peak", f"{min(shares):.0%}", min(shares) >= share))
    return found


def tables(networks: Sequence[Measured], peak: float) -> list[Table]:
    """Write out a row per network, size and side: the speed, and where the time goes."""
    speeds, profiles = [], []
    for each in networks:
        for side in SIDES:
            where = (each.backbone, f"{each.size} px", side)
            rate = each.rate(side)
            speeds.append(
                (
                    *where,
                    each.precision,
                    f"{each.speed(side):.0f}",
                    f"{rate / 1e9:.0f}",
                    f"{rate / peak:.0%}",
                    f"{each.gain:.2f}" if side == NOW else "",
                )
            )
            profiles.append((*where, *(f"{share:.0%}" for share in each.shares[side].values())))
    kinds = tuple(networks[0].shares[NOW])
    return [
        Table(("network", "images", "step", "type", "img/s", "GFLOP/s", "share of the peak", "ratio"), speeds),
        Table(("network", "images", "step", *kinds), profiles),
    ]


def benchmark(arguments: Sequence[str]) -> int:
    """Measure every network at every size and write the report."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    instructions, clock = instruction_set(), MonotonicClock()
    peak = fastest_of_engines("cpu", options.threads, clock)
    if peak is None:
        raise BenchmarkError("no engine here multiplies matrices: install what 'toolkit doctor' names.")
    networks = [
        measured(backbone, int(size), options)
        for backbone in options.backbones.split(",")
        for size in options.sizes.split(",")
    ]
    return finish(
        Report(
            name=f"{NAME}_{instructions.lower()}",
            script=NAME,
            title="A step of training: before, and with its own weight gradient of depthwise convolutions",
            settings={
                "batch size": options.batch_size,
                "unfrozen blocks": options.unfreeze,
                "threads": options.threads,
                "rounds": options.rounds,
                "instruction set": instructions,
                "matrix-product peak": f"{peak / 1e9:.0f} GFLOP/s (float32)",
            },
            claims=claims(networks, peak, instructions),
            tables=tables(networks, peak),
            notes=[
                "The part behind the frozen frontier, the last blocks and the head trained. Median over the rounds, "
                "with the smallest and the largest. The sides took turns, each round in another order; `ratio` is the "
                "median over the rounds of their ratio.",
                "Operations are those of convolutions and matrix products in the forward pass as PyTorch counts them, "
                "and twice as many backward. The layers right behind the frozen part need not pass a gradient on, so "
                "that a little less is computed: the share of the peak is at most what is said.",
                "The second table is one step under PyTorch's profiler: shares of the time of its operators.",
            ],
            measurements={"networks": [asdict(each) for each in networks]},
        ),
        options.output,
        arguments,
    )


if __name__ == "__main__":
    main(benchmark)
