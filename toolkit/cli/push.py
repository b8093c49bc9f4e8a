"""``toolkit push``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.next_steps import closing_line
from toolkit.cli.options import ArtifactsOption, QuietOption, RunOption
from toolkit.cli.place import find_place, is_named
from toolkit.errors import ToolkitError
from toolkit.printable import printable


def command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN|BUNDLE] URL",
            help="A run or a bundle (default: the newest run), and where to: a file, or a folder that ends in /.",
            show_default=False,
        ),
    ],
    run: RunOption = None,
    artifacts: ArtifactsOption = Path("artifacts"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Pack a bundle and write it to a URL, where others reach it.

    Any URL of fsspec: a path, s3://, gs://, abfs://, sftp://, memory:// and more, each with a package of its own. The
    archive appears there when it is whole. Prints the URL and the SHA-256, and keeps both in the run's pushed.json.
    """
    if len(arguments) > 2:
        raise ToolkitError(f"push takes a run or a bundle and one URL: {printable(arguments[2])} is one too many.")
    if len(arguments) == 1 and is_named(arguments[0], artifacts):
        raise ToolkitError(f"{printable(arguments[0])} is what to push: say where to, too, e.g. s3://models/.")
    from toolkit.cli.console import reporter
    from toolkit.remote import push

    bundle = find_place(arguments[0] if len(arguments) == 2 else None, run, artifacts).bundle
    pushed = push(bundle, arguments[-1], overwrite=overwrite, reporter=reporter(quiet))
    typer.echo(f"{pushed.url}  {pushed.size_bytes / 1e6:.1f} MB  SHA-256 {pushed.sha256}")
    closing_line(pushed.url, then=f"toolkit pull {shlex.quote(pushed.url)} FOLDER --sha256 {pushed.sha256}")
