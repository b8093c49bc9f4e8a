from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from toolkit.cli.recipe_flags import recipe_flags, with_recipe_flags
from toolkit.recipe import Recipe


def all_fields() -> set[str]:
    fields = set()
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields |= {f"{name}.{inner}" for inner in field.annotation.model_fields}
        else:
            fields.add(name)
    return fields - {"name", "description"}


def test_every_field_of_a_recipe_has_a_flag_of_its_own() -> None:
    flags = list(recipe_flags())
    assert {dotted for dotted, _, _ in flags} == all_fields()
    assert len({flag for _, flag, _ in flags}) == len(flags)
    assert all(field.description for _, _, field in flags)


def test_the_flags_people_type_most_are_short() -> None:
    named = {dotted: flag for dotted, flag, _ in recipe_flags()}
    assert named["data.source"] == "--data"
    assert named["backbone.name"] == "--backbone"
    assert named["stage2.head_lr"] == "--stage2-head-lr"


def test_only_flags_that_were_given_become_overrides() -> None:
    seen: dict[str, Any] = {}

    @with_recipe_flags
    def command(recipe: str = "auto", *, overrides: dict[str, Any]) -> None:
        seen.update(recipe=recipe, overrides=overrides)

    parameters = inspect.signature(command).parameters
    given = {name: None for name in parameters if name != "recipe"}
    command(recipe="digits", **{**given, "stage1__epochs": "3", "train__train_bn": False})
    assert seen == {"recipe": "digits", "overrides": {"stage1.epochs": "3", "train.train_bn": False}}


def test_help_lists_the_names_of_a_table() -> None:
    @with_recipe_flags
    def command(*, overrides: dict[str, Any]) -> None:
        del overrides

    parameters = inspect.signature(command).parameters
    for key, listed in (("train__loss", "[cross_entropy|mse]"), ("data__resize", "[squash|crop]")):
        (option,) = parameters[key].annotation.__metadata__
        assert option.metavar == listed


def test_defaults_are_those_of_a_recipe_that_says_nothing() -> None:
    @with_recipe_flags
    def command(*, overrides: dict[str, Any]) -> None:
        del overrides

    options = {
        option.default: option.help  # of an annotation, the first name is the first argument
        for parameter in inspect.signature(command).parameters.values()
        for option in parameter.annotation.__metadata__
    }
    assert options["--stage2-epochs"].endswith("[default: 10]")
    assert options["--stage2-unfreeze"].endswith("[default: 1]")
    assert options["--stage3-epochs"].endswith("[default: 0]")
    assert "[default" not in options["--views"]
    assert options["--cache/--no-cache"].endswith("[default: on]")
