"""The flags that override a recipe: one per field, made from the recipe's own model so that no field lacks one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo

from toolkit.recipe import NameIn, recipe_fields


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
    recipe_parameters = [_parameter(key, flag, field) for key, (_, flag, field) in flags.items()]
    wrapper.__signature__ = inspect.Signature([*own, *recipe_parameters])  # type: ignore[attr-defined]  # what Typer reads the options from
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *recipe_parameters]}
    wrapper.__doc__ = command.__doc__
    return wrapper


def _parameter(key: str, flag: str, field: FieldInfo) -> inspect.Parameter:
    is_switch = field.annotation is bool
    names = [f"{flag}/--no-{flag.removeprefix('--')}"] if is_switch else [flag]
    option = typer.Option(
        *names,
        help=_sentence(field.description or ""),
        metavar=None if is_switch else _metavar(field),
        show_default=False,
    )
    # Values stay text here: the recipe checks them all together and names every bad one.
    kind: Any = bool | None if is_switch else str | None
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


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
