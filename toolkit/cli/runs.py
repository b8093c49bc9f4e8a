"""``toolkit runs``."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.options import ArtifactsOption
from toolkit.errors import ToolkitError
from toolkit.printable import printable


def command(
    context: typer.Context,
    artifacts: ArtifactsOption = Path("artifacts"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON, for programs.")] = False,
) -> None:
    """List the runs of a folder, the newest first: data, backbone, accuracy, artifacts, verdicts, size and age.

    Accuracy is on the test images, size is of everything in the run's folder. Runs that have not finished or are
    damaged are listed as such. 'toolkit runs delete NAME' deletes one.
    """
    if context.invoked_subcommand is not None:
        if as_json or artifacts != Path("artifacts"):
            raise ToolkitError(f"give --artifacts after '{context.invoked_subcommand}', and no --json.")
        return
    from toolkit.api.listing import list_runs, runs_table
    from toolkit.cli.console import output
    from toolkit.report.terminal import print_list

    summaries = [summary for _, summary in list_runs(artifacts)]
    if as_json:
        typer.echo(json.dumps([summary.model_dump(mode="json") for summary in summaries], indent=2))
    elif summaries:
        print_list(runs_table(summaries, datetime.now(UTC)), output())
        for summary in summaries:
            if summary.problem is not None:
                typer.echo(f"toolkit: {summary.name} is damaged: {printable(summary.problem)}", err=True)
    else:
        typer.echo(f"there is no run in {artifacts} yet: run 'toolkit finetune' first.")


def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Runs, by their names.", show_default=False)],
    artifacts: ArtifactsOption = Path("artifacts"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs, with all that is in their folders.

    Asks first; where nobody can be asked, --yes is needed. 'latest' then points at the newest run that is left.
    """
    from toolkit.api.listing import delete_run, find_deletable, size_of
    from toolkit.files import size_text

    runs = find_deletable(names, artifacts)
    if not yes:
        if not sys.stdin.isatty():
            raise ToolkitError("there is no terminal to ask on: give --yes to delete without being asked.")
        what = ", ".join(f"{run.path} ({size_text(size_of(run.path))})" for run in runs)
        if not typer.confirm(f"delete {printable(what)}?", err=True):
            typer.echo("nothing was deleted.", err=True)
            raise typer.Exit(0)
    freed = 0
    for run in runs:
        freed += delete_run(run)
        typer.echo(f"deleted {printable(run.path)}")
    typer.echo(f"{size_text(freed)} freed")


SUBCOMMANDS = {"delete": delete}
