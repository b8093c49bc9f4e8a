"""``toolkit keygen``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Start of both file names.")],
) -> None:
    """Make a pair of keys for signing bundles.

    Writes NAME.private.pem, which signs and only you may read, and NAME.public.pem, which others check with. Neither is
    ever overwritten.
    """
    from toolkit.bundle.trust.signature import make_keys

    private, public = (name.with_name(f"{name.name}.{kind}.pem") for kind in ("private", "public"))
    fingerprint = make_keys(private, public)
    typer.echo(f"{private}  keep it secret: toolkit sign BUNDLE --key {private}")
    typer.echo(f"{public}  give it away: --verify-key {public}")
    typer.echo(f"fingerprint {fingerprint}")
