"""``toolkit pull``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.next_steps import closing_line, predict_command
from toolkit.cli.options import QuietOption, VerifyKeyOption
from toolkit.printable import printable


def command(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="An archive that 'toolkit push' wrote, or a folder that holds one.")
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="The folder to make (default: the name of the archive without .tar)."),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="DIGEST", help="What the archive must hash to.")
    ] = None,
    verify_key: VerifyKeyOption = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", metavar="N", min=1, help="Fetch no larger archive (default: 16 GiB).")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Fetch a packed bundle from a URL, check it and make a bundle of it.

    Names, sizes and hashes are checked against the manifest inside, as 'toolkit unpack' does it; the folder appears
    only if all of them are right. Prints what it is.
    """
    from toolkit.bundle import Bundle
    from toolkit.cli.console import reporter
    from toolkit.remote import LARGEST_ARCHIVE, pull

    limit = max_bytes or LARGEST_ARCHIVE
    made = pull(url, folder, sha256=sha256, verify_key=verify_key, max_bytes=limit, reporter=reporter(quiet))
    manifest = Bundle.open(made, verify_key).manifest
    formats = ", ".join(artifact.format for artifact in manifest.artifacts) or "no artifact"
    typer.echo(f"bundle {printable(made)}")
    typer.echo(
        f"  {manifest.name}: {len(manifest.labels)} classes, {formats}; made {manifest.origin.provenance.created}"
    )
    closing_line(made, then=predict_command(str(made)))
