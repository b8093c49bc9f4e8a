from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.consistency import difference, inconsistency
from toolkit.compare.tolerances import TOLERANCES

FIRST = {
    "logits": np.array([[3.9, -1], [0, 0]], np.float32),
    "probabilities": np.array([[0.9, 0.1], [0.5, 0.5]], np.float32),
}


def changed(output: str, row: int, by: float) -> dict[str, np.ndarray]:
    again = {name: values.copy() for name, values in FIRST.items()}
    again[output][row, 0] += np.float32(by)
    return again


def test_the_same_bits() -> None:
    found = difference(["x", "y"], FIRST, changed("logits", 0, 0))
    assert (found.error, found.where, found.bitwise) == (0.0, "", True)


@pytest.mark.parametrize(
    ("output", "row", "by", "error"),
    [("logits", 0, 0.4, 0.1), ("logits", 1, 0.01, 0.1), ("probabilities", 1, 0.25, 0.25)],
)
def test_logits_are_relative_to_the_row_and_probabilities_are_not(
    output: str, row: int, by: float, error: float
) -> None:
    found = difference(["x", "y"], FIRST, changed(output, row, by))
    assert found.error == pytest.approx(error, rel=1e-3)
    assert found.where == f"{output} of {'xy'[row]}"
    assert not found.bitwise
    assert inconsistency(found, TOLERANCES["float32"], "when it rains") == [
        f"{found.where} differ by {error:.3g} when it rains, allowed 0.0001"
    ]


def test_a_zero_of_another_sign_is_another_bit_and_no_error() -> None:
    again = {**FIRST, "logits": np.array([[3.9, -1], [0, -0.0]], np.float32)}
    found = difference(["x", "y"], FIRST, again)
    assert (found.error, found.bitwise) == (0.0, False)
    assert inconsistency(found, TOLERANCES["float32"], "") == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_differs_from_what_is(bad: float) -> None:
    assert math.isinf(difference(["x", "y"], FIRST, changed("logits", 0, bad)).error)
    assert difference(["x", "y"], changed("logits", 0, bad), changed("logits", 0, bad)).error == 0
