"""``toolkit formats``."""

from __future__ import annotations

import typer

from toolkit.cli.hanging import echo_hanging


def command() -> None:
    """List the export formats, those of other packages too, and say which can be used here or why not."""
    from toolkit.formats.registry import formats

    typer.echo(f"{'format':14} {'precision':10} {'file':24} here")
    for name, known in formats().items():
        reason = known.unavailable()
        echo_hanging(
            f"{name:14} {known.precision:10} {'model' + known.suffix:24} ", "yes" if reason is None else f"no: {reason}"
        )
