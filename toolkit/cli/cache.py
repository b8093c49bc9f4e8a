"""``toolkit cache``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.hanging import echo_hanging
from toolkit.files import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.training.activations.catalogue import Entry


def command(
    digests: Annotated[
        list[str] | None, typer.Argument(metavar="DIGEST", help="First digits of the ones meant (default: all).")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove them. They are computed again when they are needed.")
    ] = False,
) -> None:
    """List or clear what was computed once and kept: activations of frozen prefixes.

    With a DIGEST, everything that decides the content of that cache is printed.
    """
    from toolkit.training.activations.catalogue import cache_root, entries, find
    from toolkit.training.activations.cleaning import unfinished_bytes

    root = cache_root()
    chosen = list({(entry := find(root, digest)).digest: entry for digest in digests or ()}.values())
    if clear:
        _clear(root, chosen)
    elif chosen:
        for entry in chosen:
            _describe(entry)
    else:
        _list(root, entries(root), unfinished_bytes(root))


def _clear(root: Path, chosen: Sequence[Entry]) -> None:
    from toolkit.training.activations import cleaning

    freed = sum(cleaning.clear(root, entry.digest) for entry in chosen) if chosen else cleaning.clear(root, None)
    typer.echo(f"{size_text(freed)} freed in {root}")


def _list(root: Path, entries: Sequence[Entry], unfinished: int) -> None:
    if entries:
        typer.echo(f"{'digest':12}  {'size':>9}  {'rows':>9}  {'created':16}  {'last used':16}  tensors")
    for entry in entries:
        rows = "?" if entry.rows is None else str(entry.rows)
        dates = f"{_date(entry.created):16}  {_date(entry.last_used):16}"
        echo_hanging(f"{entry.digest[:12]}  {size_text(entry.bytes):>9}  {rows:>9}  {dates}  ", _tensors(entry))
    total = sum(entry.bytes for entry in entries)
    typer.echo(f"{size_text(total)} in {len(entries)} {'cache' if len(entries) == 1 else 'caches'} in {root}")
    if unfinished:
        typer.echo(
            f"{size_text(unfinished)} more are being written, or were when their process was killed (--clear removes "
            "those)"
        )


def _describe(entry: Entry) -> None:
    values = {
        "digest": entry.digest,
        "size": size_text(entry.bytes),
        "created": _date(entry.created),
        "last used": _date(entry.last_used),
    }
    if entry.key is None:
        values["tensors"] = _tensors(entry)
    else:
        values |= {name: str(value) for name, value in entry.key.model_dump().items()} | {"tensors": _tensors(entry)}
    for name, value in values.items():
        echo_hanging(f"{name:14} ", value)


def _tensors(entry: Entry) -> str:
    if entry.key is None:
        return "unknown: its index cannot be read, or is of another version"
    return ", ".join(f"{spec.name} {list(spec.shape)}" for spec in entry.tensors) + f" {entry.key.dtype}"


def _date(moment: datetime | None) -> str:
    return "?" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"
