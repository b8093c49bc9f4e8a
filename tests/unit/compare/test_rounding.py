from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.rounding import (
    ROUNDOFF,
    allowed_typical_error,
    compare_rounding,
    relative_rms,
    rounding_failure,
    rounding_notes,
)
from toolkit.compare.tolerances import TOLERANCES

EXACT = np.array([[4.0, -8.0], [1.0, 2.0]])


def test_the_error_is_the_root_mean_square_over_rows_of_the_largest_relative_one() -> None:
    assert relative_rms(EXACT, EXACT + np.array([[0.8, 0.0], [0.0, 0.0]])) == pytest.approx(0.1 / math.sqrt(2))
    assert relative_rms(EXACT, EXACT) == 0
    assert math.isinf(relative_rms(EXACT, np.array([[math.nan, 0], [0, 0]])))


def test_an_error_far_above_rounding_is_a_failure() -> None:
    good, bad = (compare_rounding(EXACT, EXACT * (1 + error), 1e-6, "float32") for error in (5e-6, 5e-5))
    assert good.ratio == pytest.approx(5)
    assert rounding_failure(good, TOLERANCES["float32"]) == []
    (failure,) = rounding_failure(bad, TOLERANCES["float32"])
    assert "50 times what PyTorch loses by rounding in float32 (1e-06), allowed 10 times" in failure
    assert rounding_failure(bad, TOLERANCES["int8"]) == []


def test_no_network_is_held_to_less_than_one_rounding() -> None:
    found = compare_rounding(EXACT, EXACT * (1 + 3 * ROUNDOFF["float32"]), 0.0, "float32")
    assert found.ratio == pytest.approx(3)


@pytest.mark.parametrize("reference", [0.0, 2e-7, 3e-6])
def test_the_error_that_is_allowed_is_the_one_up_to_which_there_is_no_failure(reference: float) -> None:
    allowed = allowed_typical_error(reference, "float32", TOLERANCES["float32"])
    assert allowed is not None
    below, above = (
        compare_rounding(EXACT, EXACT * (1 + allowed * factor), reference, "float32") for factor in (0.999, 1.001)
    )
    assert rounding_failure(below, TOLERANCES["float32"]) == []
    assert rounding_failure(above, TOLERANCES["float32"]) != []
    assert allowed_typical_error(None, "float32", TOLERANCES["float32"]) is None
    assert allowed_typical_error(reference, "int8", TOLERANCES["int8"]) is None
    assert allowed_typical_error(reference, "fp4", TOLERANCES["float32"]) is None


def test_a_rounding_error_that_no_network_has_is_told() -> None:
    assert rounding_notes(2e-5, TOLERANCES["float32"]) == ()
    assert rounding_notes(1e-2, TOLERANCES["float16"]) == ()
    assert rounding_notes(1.0, TOLERANCES["int8"]) == ()
    (note,) = rounding_notes(0.1, TOLERANCES["float32"])
    assert note.startswith("the bundle says that rounding in float32 costs this network 0.1, so that errors of 1 would")
