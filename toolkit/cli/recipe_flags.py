"""The flags that override a recipe: one per field, made from the recipe's own model so that no field lacks one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo

from toolkit.cli.completion import complete_formats
from toolkit.recipe import NameIn, Recipe, field_of, recipe_fields

METAVARS = {
    "train.device": "[auto|cpu|cuda|cuda:N]",
    "data.source": "FOLDER|NAME",
    "distill.teacher": "RUN",
    "backbone.name": "NAME",
    "export.formats": "A,B",
}
"""What stands for a value in the help, where the field's type does not say it."""
COMPLETED = {"export.formats": complete_formats}
"""What a shell completes."""
EVERYDAY = (
    "data.source",
    "backbone.name",
    "backbone.image_size",
    "stage1.epochs",
    "stage2.epochs",
    "export.formats",
    "train.device",
    "train.threads",
)
"""Fields whose flags are listed first, in this order; those of ``export`` only where a command exports too."""
PANELS = {
    "seed": "Recipe: seed",
    "data": "Recipe: data",
    "backbone": "Recipe: backbone",
    "augment": "Recipe: augmentation of the training images",
    "cache": "Recipe: activations that are kept",
    "train": "Recipe: all stages",
    "stage1": "Recipe: stage 1, the new head",
    "stage2": "Recipe: stage 2, the last blocks too",
    "stage3": "Recipe: stage 3, more blocks in the last epochs",
    "distill": "Recipe: a teacher",
    "model": "Recipe: the model beside its weights",
    "export": "Recipe: export",
}
"""Headings in the help, by section. What a flag's default is there holds where the recipe says nothing else."""


def recipe_flags() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield the dotted field, the flag and the field's description for all of a recipe that a flag can override."""
    for dotted, name, field in recipe_fields():
        yield dotted, f"--{name.replace('_', '-')}", field


def with_recipe_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag per recipe field.

    It receives those that were given as ``overrides``, dotted field to value.
    """
    flags = {dotted.replace(".", "__"): (dotted, flag, field) for dotted, flag, field in recipe_flags()}

    def wrapper(**given: Any) -> None:
        overrides = {flags[key][0]: given.pop(key) for key in flags if given.get(key) is not None}
        for key in flags:
            given.pop(key, None)
        command(**given, overrides=overrides)

    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "overrides"
    ]
    recipe_parameters = {dotted: _parameter(key, dotted, flag, field) for key, (dotted, flag, field) in flags.items()}
    first = [recipe_parameters.pop(dotted) for dotted in EVERYDAY]
    parameters = [*first, *own, *recipe_parameters.values()]
    wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what Typer reads the options from
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapper.__doc__ = command.__doc__
    return wrapper


def _parameter(key: str, dotted: str, flag: str, field: FieldInfo) -> inspect.Parameter:
    is_switch = field.annotation is bool
    names = [f"{flag}/--no-{flag.removeprefix('--')}"] if is_switch else [flag]
    option = typer.Option(
        *names,
        help=_sentence(field.description or "") + _default(dotted, field),
        metavar=None if is_switch else METAVARS.get(dotted, _metavar(field)),
        show_default=False,
        rich_help_panel=None if dotted in EVERYDAY else PANELS[dotted.partition(".")[0]],
        autocompletion=COMPLETED.get(dotted),
    )
    # Values stay text here: the recipe checks them all together and names every bad one.
    kind: Any = bool | None if is_switch else str | None
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _default(dotted: str, field: FieldInfo) -> str:
    """Return a field's default as the end of its help; nothing where the help says it, or there is none.

    It is that of a recipe that says nothing: stages have the same fields, and not all the same defaults.
    """
    default = field_of(Recipe(), dotted)
    if default is None or "default" in (field.description or ""):
        return ""
    if isinstance(default, bool):
        default = "on" if default else "off"
    elif isinstance(default, tuple):
        default = ",".join(default)
    return f"  [default: {default}]"


def _metavar(field: FieldInfo) -> str:
    annotation = field.annotation
    choices = [value for value in get_args(annotation) if isinstance(value, str)]
    choices += [name for marker in field.metadata if isinstance(marker, NameIn) for name in marker.table]
    if choices:
        return "[" + "|".join(choices) + "]"
    kinds = [annotation, *get_args(annotation)]
    if str in kinds:
        return "TEXT"
    if float in kinds:
        return "NUMBER"
    return "N" if int in kinds and not any(get_args(kind) for kind in kinds[1:]) else "TEXT"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
