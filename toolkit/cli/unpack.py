"""``toolkit unpack``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.next_steps import closing_line
from toolkit.cli.options import VerifyKeyOption
from toolkit.errors import BundleError


def command(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that 'toolkit pack' wrote.")],
    target: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="The folder to make (default: FILE without .tar)."),
    ] = None,
    verify_key: VerifyKeyOption = None,
) -> None:
    """Check an archive and make a bundle of it.

    Names, sizes and hashes are checked against the manifest inside; the folder appears only if all of them are right.
    """
    if archive.is_dir():
        raise BundleError(f"{archive} is a folder: give a file that 'toolkit pack' wrote.")
    from toolkit.bundle.trust.archive import unpack

    bundle = unpack(archive, target, verify_key)
    closing_line(bundle, then=f"toolkit selftest {shlex.quote(str(bundle))}")
