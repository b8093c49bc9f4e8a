"""``toolkit backbones``."""

from __future__ import annotations

from typing import Annotated

import typer

from toolkit.cli.hanging import echo_hanging
from toolkit.dependencies import require_for_training


def command(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATTERN]", help="Which, e.g. 'resnet*' or 'timm:vit_*' (default: all of torchvision)."
        ),
    ] = None,
) -> None:
    """List backbones with their size and cost.

    Parameters count the ImageNet head; GMACs are billions of multiply-adds for one image at the input size; the last
    column is what '--stage2-unfreeze 1' trains.
    """
    from toolkit.api.stages import loading
    from toolkit.cli.console import reporter

    with loading(reporter(quiet=False)):
        require_for_training("torch", "torchvision")
    from toolkit.backbones import list_backbones
    from toolkit.errors import BackboneError

    header_printed = False
    for summary in list_backbones(pattern):
        if not header_printed:
            typer.echo(f"{'backbone':38} {'params (M)':>10} {'GMACs':>7} {'input':>5}  last block")
            header_printed = True
        name = f"{summary.name:38} {summary.parameters / 1e6:10.2f} {summary.gmacs:7.2f} {summary.image_size:5d}"
        echo_hanging(f"{name}  ", summary.default_cut)
    if not header_printed:
        raise BackboneError(f"no backbone matches {pattern!r}: give a pattern such as 'resnet*' or 'timm:vit_*'.")
