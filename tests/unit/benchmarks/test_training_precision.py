from __future__ import annotations

import pytest

from benchmarks import training_precision
from benchmarks.harness.errors import BenchmarkError
from benchmarks.training_precision import NARROW, WIDE, Measured, benchmark, claims, measured, parse, row

OPTIONS = ["--rounds", "2", "--seconds", "0.001", "--batch-size", "4", "--threads", "1", "--unfreeze", "2"]


def made(narrow: float, auto: str = NARROW, difference: float = 0.0) -> Measured:
    """Return a network that makes 100 images per second in float32."""
    return Measured("resnet18", 64, auto, difference, {WIDE: [100.0, 100.0], NARROW: [narrow, narrow]})


@pytest.mark.parametrize(
    ("network", "met"),
    [
        (made(200.0), [True, True]),
        (made(90.0), [False, True]),
        (made(90.0, auto=WIDE), [True, True]),
        (made(200.0, difference=0.1), [True, False]),
    ],
)
def test_each_claim_can_be_missed(network: Measured, met: list[bool]) -> None:
    assert [claim.met for claim in claims([made(110.0), network])] == met


def test_a_row_has_both_sides_and_what_auto_takes() -> None:
    assert row(made(150.0)) == ("resnet18", "64 px", "100", "150", "1.50x", "bfloat16")


def test_a_network_is_measured_on_both_sides() -> None:
    found = measured("timm:test_efficientnet", 64, parse(OPTIONS))
    assert {side: len(values) for side, values in found.speeds.items()} == {WIDE: 2, NARROW: 2}
    # Random weights: rounding is seen in the loss, and nothing else.
    assert 0 < found.difference < 0.02


def test_a_processor_that_does_not_multiply_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_precision, "multiplies_bfloat16", lambda: False)
    with pytest.raises(BenchmarkError, match="no instructions that multiply bfloat16"):
        benchmark(OPTIONS)
