from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.harness.draw_options import changes_of, draws_parser, parse_draws, settings_of
from benchmarks.harness.errors import BenchmarkError
from toolkit.recipe import load_recipe


def parsed(*arguments: str) -> argparse.Namespace:
    return parse_draws(draws_parser("some", None), arguments)


def test_too_few_draws_are_said() -> None:
    assert parsed("--draws", "5").draws == 5
    with pytest.raises(BenchmarkError, match="4 draws have no interval worth its name: give 5 or more"):
        parsed("--draws", "4")


def test_digits_are_not_mirrored_and_a_folder_is_as_its_recipe_has_it() -> None:
    digits = load_recipe("folder").override(changes_of(parsed()))
    assert (digits.data.source, digits.augment.flip, digits.backbone.image_size) == ("digits", False, 64)
    assert digits.data.test_limit is None
    recipe = load_recipe("folder").override(changes_of(parsed("--data", "photos", "--test", "30")))
    assert (recipe.data.source, recipe.augment.flip) == (str(Path("photos").resolve()), True)
    assert recipe.data.test_limit == 30


def test_another_backbone_and_other_weights() -> None:
    asked = parsed("--backbone", "timm:test_efficientnet", "--weights", "none")
    recipe = load_recipe("folder").override(changes_of(asked))
    assert (recipe.backbone.name, recipe.backbone.weights) == ("timm:test_efficientnet", "none")
    assert settings_of(asked, recipe)["backbone"] == "timm:test_efficientnet"


def test_a_report_names_the_folder_and_not_where_it_lies(tmp_path: Path) -> None:
    options = parsed("--data", str(tmp_path / "photos"), "--test", "30")
    settings = settings_of(options, load_recipe("folder"))
    assert (settings["data"], settings["test images"], settings["draws"]) == ("photos", 30, 8)
