from __future__ import annotations

import subprocess
import sys

import pytest

from toolkit.errors import RecipeError
from toolkit.recipe import Recipe
from toolkit.training_choices import LOSSES, OPTIMIZERS, SCHEDULES, constant, cosine, one_cycle

TABLES = {"train.loss": LOSSES, "stage1.optimizer": OPTIMIZERS, "stage2.schedule": SCHEDULES}


def test_constant_stays() -> None:
    assert {constant(step, 7) for step in range(7)} == {1.0}


def test_cosine_falls_from_one_to_zero() -> None:
    factors = [cosine(step, 10) for step in range(11)]
    assert factors[0] == 1.0
    assert factors[5] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0.0)
    assert factors == sorted(factors, reverse=True)


def test_one_cycle_climbs_for_a_third_and_falls_to_almost_nothing() -> None:
    factors = [one_cycle(step, 100) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[30] == 1.0
    assert factors[:31] == sorted(factors[:31])
    assert factors[30:] == sorted(factors[30:], reverse=True)
    assert factors[100] == pytest.approx(1e-4)


@pytest.mark.parametrize("field", TABLES)
def test_a_recipe_takes_the_names_of_the_table_and_no_other(field: str) -> None:
    section, name = field.split(".")
    for choice in TABLES[field]:
        assert getattr(getattr(Recipe().override({field: choice}), section), name) == choice
    *first, last = (repr(choice) for choice in TABLES[field])
    with pytest.raises(RecipeError, match=f"{field}: Input should be {', '.join(first)} or {last} .given: 'other'"):
        Recipe().override({field: "other"})


def test_a_choice_takes_its_fields_from_the_recipe() -> None:
    recipe = Recipe().override({"stage1.momentum": 0.5, "stage1.weight_decay": 0.25})
    for choice in OPTIMIZERS.values():
        assert all(hasattr(recipe.stage1, name) for name in choice.fields)
    for choice in LOSSES.values():
        assert all(hasattr(recipe.train, name) for name in choice.fields)


def test_recipes_are_read_without_torch() -> None:
    code = "import sys, toolkit.recipe; toolkit.recipe.load_recipe('digits'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
