from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.compare.tolerances import (
    FIELDS,
    OTHER_WEIGHTS,
    REQUIRED,
    TOLERANCES,
    allowed_error,
    limits_for,
    tolerance_for,
)
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


def test_the_limits_of_a_bundle_tighten_and_never_widen() -> None:
    usual = TOLERANCES["int8"]
    own = usual.model_copy(
        update={
            "logits_absolute": 1.0,
            "logits_relative": 0.0,
            "top1_agreement": 0.99,
            "mean_divergence": 7.0,
            "median_range_use": 0.1,
            "softmax_absolute": math.nan,
        }
    )
    limits = limits_for("int8", own)
    assert limits.tolerance == usual.model_copy(
        update={"logits_absolute": 1.0, "logits_relative": 0.0, "top1_agreement": 0.99}
    )
    (note,) = limits.notes
    assert note == (
        "the bundle's own limits are wider than int8 allows and were not used: softmax_absolute nan, "
        "mean_divergence 7, median_range_use 0.1; used: softmax_absolute 0.05, mean_divergence 0.1, "
        f"median_range_use {1 / 3:g}"
    )


def test_a_limit_that_a_bundle_took_away_is_the_usual_one() -> None:
    usual = TOLERANCES["float32"]
    own = usual.model_copy(update={"logits_absolute": None, "probabilities_absolute": math.inf})
    limits = limits_for("float32", own)
    assert limits.tolerance == usual
    assert "logits_absolute not judged, probabilities_absolute inf; used: logits_absolute 0.0001" in limits.notes[0]


def test_a_bundle_of_before_a_limit_says_nothing_of_it() -> None:
    usual = TOLERANCES["int8"]
    old = Tolerance.model_validate(
        {"precision": "int8", **{name: getattr(usual, name) for name in (*REQUIRED, "top1_agreement")}}
    )
    assert limits_for("int8", old) == limits_for("int8")
    assert limits_for("int8").tolerance == usual


def test_what_the_caller_replaces_counts_and_is_said() -> None:
    own = TOLERANCES["float32"].model_copy(update={"logits_relative": 1e-5})
    limits = limits_for("float32", own, {"logits_relative": 0.5, "logits_absolute": 1e-4})
    assert limits.tolerance.logits_relative == 0.5
    assert limits.notes == ("limits replaced by whoever asked: logits_relative 0.5; usual: logits_relative 1e-05",)
    with pytest.raises(RecipeError, match="cannot be nan"):
        limits_for("float32", own, {"logits_relative": math.nan})


def test_of_a_precision_that_the_table_does_not_have_the_bundle_is_all_there_is_and_that_is_said() -> None:
    own = Tolerance(precision="int4", logits_absolute=1.0, logits_relative=0.0, probabilities_absolute=0.5)
    limits = limits_for("int4", own)
    assert limits.tolerance == own
    assert limits.notes == ("there is no tolerance for precision 'int4' here, so the limits are the bundle's own",)
    with pytest.raises(RecipeError, match="no tolerance for precision 'int4'"):
        limits_for("int4")
    assert limits_for("int4", own, dict.fromkeys(REQUIRED, 2.0)).tolerance.logits_absolute == 2.0
