"""``toolkit cache``."""

from __future__ import annotations

from datetime import datetime
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

    And the prefixes themselves, as they were exported.

    With a DIGEST, everything that decides the content of that cache is printed.
    """
    from toolkit.training.activations.catalogue import cache_root, find, prefix_root

    chosen = list(
        {(entry := find(cache_root(), digest, prefix_root())).digest: entry for digest in digests or ()}.values()
    )
    if clear:
        _clear(chosen)
    elif chosen:
        for entry in chosen:
            _describe(entry)
    else:
        _list()


def _clear(chosen: Sequence[Entry]) -> None:
    from toolkit.training.activations import cleaning
    from toolkit.training.activations.catalogue import cache_root, prefix_root

    for root in (cache_root(), prefix_root()):
        if not chosen:
            freed = cleaning.clear(root, None)
        elif here := [entry for entry in chosen if entry.root == root]:
            freed = sum(cleaning.clear(root, entry.digest) for entry in here)
        else:
            continue
        if freed or chosen or root == cache_root():
            typer.echo(f"{size_text(freed)} freed in {root}")


def _list() -> None:
    from toolkit.training.activations.catalogue import cache_root, entries, prefix_root
    from toolkit.training.activations.cleaning import unfinished_bytes

    roots = {cache_root(): ("cache", "caches"), prefix_root(): ("exported prefix", "exported prefixes")}
    every = entries(*roots)
    if every:
        typer.echo(f"{'digest':12}  {'size':>9}  {'rows':>9}  {'created':16}  {'last used':16}  tensors")
    for entry in every:
        rows = _rows(entry)
        dates = f"{_date(entry.created):16}  {_date(entry.last_used):16}"
        echo_hanging(f"{entry.digest[:12]}  {size_text(entry.bytes):>9}  {rows:>9}  {dates}  ", _holds(entry))
    for root, (one, several) in roots.items():
        here = [entry.bytes for entry in every if entry.root == root]
        if here or root == cache_root():
            typer.echo(f"{size_text(sum(here))} in {len(here)} {one if len(here) == 1 else several} in {root}")
    if unfinished := sum(map(unfinished_bytes, roots)):
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
    fields = {} if entry.key is None else {name: str(value) for name, value in entry.key.model_dump().items()}
    for name, value in (values | fields | {"tensors": _holds(entry)}).items():
        echo_hanging(f"{name:14} ", value)


def _rows(entry: Entry) -> str:
    if entry.key is None:
        return "?"
    return "-" if entry.rows is None else str(entry.rows)


def _holds(entry: Entry) -> str:
    from toolkit.training.activations.catalogue import PrefixKey

    if entry.key is None:
        return "unknown: its index cannot be read, or is of another version"
    if isinstance(entry.key, PrefixKey):
        return f"none: the frozen part itself at {' x '.join(map(str, entry.key.image_size))}, as ONNX"
    return ", ".join(f"{spec.name} {list(spec.shape)}" for spec in entry.tensors) + f" {entry.key.dtype}"


def _date(moment: datetime | None) -> str:
    return "?" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"
