"""``toolkit card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.options import ArtifactsOption, PlaceArgument, RunOption
from toolkit.cli.place import find_place
from toolkit.errors import ToolkitError
from toolkit.files import read_text
from toolkit.printable import printable

LONGEST_TEXT = 100_000
"""Characters; it stands in the manifest, which a service reads at every start."""


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    intended_use: Annotated[
        Path | None,
        typer.Option("--intended-use", metavar="FILE", help="Markdown (UTF-8) on what the model is for, and what not."),
    ] = None,
) -> None:
    """Print a bundle's model card, or say in it what the model is for.

    The card is made from the manifest, and its hash is checked like that of every file: with --intended-use the text of
    FILE goes into both. The next export makes a new bundle without it.
    """
    text = None if intended_use is None else _text(intended_use)
    bundle = find_place(place, run, artifacts).bundle
    from toolkit.bundle import Bundle
    from toolkit.bundle.model_card import model_card
    from toolkit.bundle.recording import record_intended_use
    from toolkit.cli.console import telling_of_lost_signature

    if text is None:
        typer.echo(model_card(Bundle.open(bundle).manifest), nl=False)
        return
    with telling_of_lost_signature(bundle):
        record_intended_use(bundle, text)
    typer.echo(f"wrote the intended use into {bundle}")


def _text(path: Path) -> str:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ToolkitError(f"{printable(path)} cannot be read as UTF-8 text: {reason}.") from error
    if not text.strip() or len(text) > LONGEST_TEXT:
        raise ToolkitError(f"{path} has {len(text.strip())} characters: give a text of 1 to {LONGEST_TEXT}.")
    return text
