"""The commands that list what there is: backbones and recipes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import commands

from toolkit.recipe import load_recipe, shipped_recipes


def run(*arguments: str) -> commands.Done:
    return commands.run(Path.cwd(), *arguments)


def test_backbones_have_parameters_cost_input_and_cut() -> None:
    done = run("backbones", "resnet18")
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.split() == ["backbone", "params", "(M)", "GMACs", "input", "last", "block"]
    # 11.69 million parameters and 1.81 billion multiply-adds are what torchvision's own documentation says of
    # ResNet-18.
    assert row.split() == ["torchvision:resnet18", "11.69", "1.81", "224", "layer4"]


def test_a_pattern_without_a_match_is_one_sentence() -> None:
    done = run("backbones", "torchvision:nothing*")
    assert (done.returncode, done.stdout) == (2, "")
    said = "no backbone matches 'torchvision:nothing*': give a pattern such as 'resnet*' or 'timm:vit_*'."
    assert done.stderr == f"loading PyTorch ...\ntoolkit: {said}\n"


def test_every_recipe_is_listed_with_its_description() -> None:
    done = run("recipes")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [*shipped_recipes(), "auto"]
    assert load_recipe("textbook").description in done.stdout


def test_a_printed_recipe_is_toml_to_save_and_edit() -> None:
    done = run("recipes", "digits")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads(done.stdout)["backbone"]["name"] == "timm:tf_efficientnet_lite0"


def test_an_unknown_recipe_names_those_that_exist() -> None:
    done = run("recipes", "nothing")
    assert done.returncode == 2
    assert "give one of auto, cifar10, digits, folder, textbook" in done.stderr
