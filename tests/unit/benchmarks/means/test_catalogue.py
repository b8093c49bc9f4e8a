from __future__ import annotations

import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.means.catalogue import MEANS, TEACHER, Means
from toolkit.recipe import load_recipe


@pytest.mark.parametrize("means", MEANS, ids=lambda means: means.name)
def test_every_means_is_a_change_of_the_recipe(means: Means) -> None:
    recipe = load_recipe("folder").override({"train.keep": "last"})
    changed = recipe.override(means.changes(recipe))
    assert changed != recipe or means.name == TEACHER


def test_what_is_chosen_by_the_images_that_judge_says_so() -> None:
    recipe = load_recipe("folder").override({"train.keep": "last"})
    flattered = [means for means in MEANS if means.changes(recipe).get("train.keep") == "best"]
    assert [means.name for means in flattered] == ["patience"]
    assert flattered[0].text.endswith("the best epoch on the images that judge is kept, which flatters it")


@pytest.mark.parametrize(("recipe", "views"), [("digits", 2), ("folder", 8), ("cifar10", 4)])
def test_twice_the_views_are_twice_those_of_the_recipe(recipe: str, views: int) -> None:
    (means,) = (means for means in MEANS if means.name == "views")
    assert means.changes(load_recipe(recipe)) == {"cache.views": views}


def test_a_block_more_than_named_ones_is_none() -> None:
    (deeper,) = (means for means in MEANS if means.name == "deeper")
    recipe = load_recipe("folder")
    assert deeper.changes(recipe) == {"stage2.unfreeze": recipe.stage2.unfreeze + 1}
    with pytest.raises(BenchmarkError, match=r"stage2.unfreeze names blocks: give how many with --set"):
        deeper.changes(recipe.override({"stage2.unfreeze": ["blocks.6"]}))
