"""``toolkit pack``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.next_steps import closing_line
from toolkit.cli.options import ArtifactsOption, PlaceArgument, RunOption
from toolkit.cli.place import find_place
from toolkit.printable import printable


def command(
    place: PlaceArgument = None,
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    target: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The archive (default: NAME.tar, here).")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign the bundle with this private key (PEM) first.")
    ] = None,
) -> None:
    """Write a bundle as one archive, the same bytes on every machine.

    The archive is a plain tar file. Every file is checked before it is packed. Prints the archive and its SHA-256.
    """
    from toolkit.bundle.trust.archive import pack
    from toolkit.bundle.writer import sign_bundle
    from toolkit.files import sha256_file

    bundle = find_place(place, run, artifacts).bundle
    if key is not None:
        sign_bundle(bundle, key)
    written = pack(bundle, target)
    typer.echo(f"{printable(written)}  {written.stat().st_size / 1e6:.1f} MB  SHA-256 {sha256_file(written)}")
    closing_line(written, then=f"toolkit unpack {shlex.quote(str(written))}")
