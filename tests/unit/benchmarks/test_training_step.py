from __future__ import annotations

import pytest

from benchmarks import training_step
from benchmarks.trained_part import make_step
from benchmarks.training_step import BEFORE, NOW, Measured, both, claims, measured, parse, shares_of, tables

OPTIONS = ["--rounds", "2", "--seconds", "0.001", "--batch-size", "4", "--threads", "1", "--unfreeze", "2"]
PEAK = 1e11


def made(now: float, backbone: str = "timm:tf_efficientnet_lite0", difference: float = 0.0) -> Measured:
    """Return a network that made 100 images per second before, each of a billion operations."""
    shares = {side: {"everything else": 1.0} for side in training_step.SIDES}
    speeds = {BEFORE: [100.0, 100.0], NOW: [now, now]}
    return Measured(backbone, 64, "a, b", "float32", 1e9, difference, speeds, shares)


@pytest.mark.parametrize(
    ("network", "instructions", "met"),
    [
        (made(200.0), "AVX2", [True, True, True]),
        (made(150.0), "AVX2", [True, True, False]),
        (made(150.0), "AVX512", [True, True]),
        (made(90.0), "AVX512", [True, False]),
        (made(200.0, difference=1e-4), "AVX512", [False, True]),
        (made(100.0, "torchvision:resnet18"), "AVX2", [True, True, True]),
    ],
)
def test_each_claim_can_be_missed(network: Measured, instructions: str, met: list[bool]) -> None:
    assert [claim.met for claim in claims([network], PEAK, instructions)] == met


def test_resnet18_can_miss_its_share_of_the_peak() -> None:
    *_, share = claims([made(50.0, "torchvision:resnet18")], PEAK, "AVX512")
    assert (share.measured, share.met) == ("50%", False)


def test_the_tables_have_both_sides() -> None:
    speeds, profiles = tables([made(150.0)], PEAK)
    assert [row[2] for row in speeds.rows] == [BEFORE, NOW]
    assert speeds.rows[1][4:] == ("150", "150", "150%", "1.50")
    assert profiles.rows[0][3:] == ("100%",)


def test_a_network_is_measured_on_both_sides() -> None:
    found = measured("timm:test_efficientnet", 64, parse(OPTIONS))
    assert found.difference < 1e-5
    assert {side: len(values) for side, values in found.speeds.items()} == {BEFORE: 2, NOW: 2}
    assert found.flops > 0
    assert sum(found.shares[NOW].values()) == pytest.approx(1, abs=0.05)


def test_the_sides_differ_in_their_gradients_alone() -> None:
    step = make_step("timm:test_efficientnet", 64, parse(OPTIONS), both)
    for side in training_step.SIDES:
        step.make(side)
    ways = {side: {found.way for found in learner.depthwise.chosen()} for side, learner in step.learners.items()}
    assert ways[BEFORE] == {"pytorch"}
    assert shares_of(step, BEFORE)["products of pairs"] == 0
