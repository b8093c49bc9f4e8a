from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.tolerances import FIELDS, OTHER_WEIGHTS, REQUIRED, TOLERANCES, allowed_error, tolerance_for
from toolkit.errors import RecipeError
from toolkit.results import Tolerance


def test_every_entry_names_its_own_precision() -> None:
    assert all(name == tolerance.precision for name, tolerance in TOLERANCES.items())
    assert tolerance_for("float32") == TOLERANCES["float32"]


def test_overrides_replace_only_what_they_name() -> None:
    changed = tolerance_for("float32", {"logits_relative": 0.5})
    assert changed == TOLERANCES["float32"].model_copy(update={"logits_relative": 0.5})


def test_allowed_error_follows_the_largest_logit_of_the_row() -> None:
    tolerance = Tolerance(precision="x", logits_absolute=0.5, logits_relative=0.25, probabilities_absolute=0.125)
    reference = np.array([[0, -8], [2, 4], [0, 0]], np.float32)
    assert allowed_error("logits", reference, tolerance).tolist() == [2.5, 1.5, 0.5]
    assert allowed_error("probabilities", reference, tolerance).tolist() == [0.125] * 3


def test_a_precision_without_a_tolerance_needs_all_values() -> None:
    with pytest.raises(RecipeError, match="no tolerance for precision 'int4'"):
        tolerance_for("int4", {"logits_absolute": 1.0})
    assert tolerance_for("int4", dict.fromkeys(REQUIRED, 1.0)).precision == "int4"


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
def test_a_tolerance_that_would_pass_anything_or_nothing_is_refused(value: float) -> None:
    with pytest.raises(RecipeError, match="logits_absolute cannot be"):
        tolerance_for("float32", {"logits_absolute": value})


def test_an_unknown_field_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(RecipeError, match="a tolerance has no atol; it has logits_absolute"):
        tolerance_for("float32", {"atol": 1.0})


def test_int8_is_not_judged_by_single_errors() -> None:
    reference = np.array([[0, -8]], np.float32)
    assert allowed_error("logits", reference, TOLERANCES["int8"]).tolist() == [math.inf]
    assert allowed_error("probabilities", reference, TOLERANCES["int8"]).tolist() == [math.inf]
    assert TOLERANCES["int8"].top1_agreement is not None
    assert TOLERANCES["int8"].accuracy_drop is not None


def test_every_precision_is_held_to_something() -> None:
    for tolerance in TOLERANCES.values():
        assert tolerance.logits_relative is not None or tolerance.top1_agreement is not None
        assert 0 < tolerance.self_relative < 0.1


def test_what_a_new_model_is_held_to_names_real_limits() -> None:
    assert set(OTHER_WEIGHTS) <= set(FIELDS)
    tolerance_for("float32").model_copy(update=OTHER_WEIGHTS)
