"""The typed keyword arguments are the fields of a recipe: names, types and descriptions."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from toolkit.api import fields
from toolkit.api.fields import ExportFields, RecipeFields
from toolkit.recipe import recipe_fields

OF_THE_RECIPE = {name: field for _, name, field in recipe_fields()}
WIDER: dict[str, Any] = {
    "weights": str | Path,
    "data_root": str | Path | None,
    "teacher": str | Path | None,
    "formats": str | Sequence[str],
    "stage1_unfreeze": int | str | Sequence[str],
    "stage2_unfreeze": int | str | Sequence[str],
    "stage3_unfreeze": int | str | Sequence[str],
}
"""What a person may give in other forms, which the recipe reads as its own."""


def described() -> dict[str, str]:
    """The text below each field, by its name."""
    found = {}
    for kind in ast.parse(inspect.getsource(fields)).body:
        if isinstance(kind, ast.ClassDef):
            for field, text in zip(kind.body, kind.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    assert isinstance(text, ast.Expr), field.target.id
                    assert isinstance(text.value, ast.Constant), field.target.id
                    found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def test_every_field_has_a_keyword_argument() -> None:
    assert get_type_hints(RecipeFields).keys() | {"data"} == OF_THE_RECIPE.keys()


@pytest.mark.parametrize("name", sorted(OF_THE_RECIPE.keys() - {"data"}))
def test_types_and_descriptions_are_those_of_the_recipe(name: str) -> None:
    assert get_type_hints(RecipeFields)[name] == WIDER.get(name, OF_THE_RECIPE[name].annotation)
    text = str(OF_THE_RECIPE[name].description)
    assert described()[name] == f"{text[0].upper()}{text[1:]}."


def test_an_export_takes_the_fields_of_its_section() -> None:
    section = {name for dotted, name, _ in recipe_fields() if dotted.startswith("export.")}
    assert get_type_hints(ExportFields).keys() | {"formats"} == section
