"""``toolkit recipes``."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.cli.hanging import echo_hanging
from toolkit.recipe import AUTO, EMBEDDED_RECIPE, PREFERRED_RECIPE, load_recipe, shipped_recipes


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Print this recipe as TOML, to save and edit.")
    ] = None,
) -> None:
    """List the shipped recipes, or print one as TOML."""
    shipped = shipped_recipes()
    if name is not None and name in shipped:
        typer.echo(shipped[name], nl=False)
        return
    if name is not None:
        load_recipe(name)
        raise typer.Exit
    for shipped_name in shipped:
        echo_hanging(f"{shipped_name:10} ", load_recipe(shipped_name).description)
    choice = f"{PREFERRED_RECIPE} where its data and weights are at hand, otherwise {EMBEDDED_RECIPE} (the default)."
    echo_hanging(f"{AUTO:10} ", choice)
