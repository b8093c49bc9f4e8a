"""A run as a notebook shows it: accuracy, artifacts with verdicts and speeds, pictures. One piece of HTML, small.

Styles stand in the elements, because notebooks that are not trusted lose style sheets; colours are those of the page,
so that it reads in the dark, too. Pictures are part of it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

from toolkit.api.listing import RunSummary, accuracy_text, data_text
from toolkit.api.shown import BAD, GOOD, escaped, table_html
from toolkit.bundle import read_manifest
from toolkit.bundle.speeds import speed_table
from toolkit.errors import ToolkitError
from toolkit.files import read_regular, size_text
from toolkit.report.figures import NONE
from toolkit.report.tables import Column, Line, Table
from toolkit.results import Review, ReviewedImage
from toolkit.run_folder import RunFolder

PICTURES = (("learning_curves.png", "Learning curves", 620), ("confusion.png", "Confusion matrix", 420))
"""Files, what they show, and their width on the page in pixels."""
COLOURS = 48
"""Of a picture, which is enough for lines and shades of one colour."""
LARGEST_PICTURE = 90_000
LARGEST_THUMBNAIL = 8_000
"""Bytes; larger ones are left out."""
MISTAKES = 10
"""How many are shown, the most confident ones."""
VERDICTS = {True: f"{GOOD} verified", False: f"{BAD} FAILED", None: "not verified"}
"""What is said of an artifact that was verified, or not."""


def run_card(folder: RunFolder, summary: RunSummary) -> str:
    """Return a run as HTML; of an unfinished or damaged one what there is.

    Args:
        folder: the run.
        summary: of the same run.
    """
    parts = [
        f'<div style="font-size:110%"><b>{escaped(summary.name)}</b></div>',
        f"<div>{escaped(summary.backbone or 'unknown backbone')} on {escaped(data_text(summary))}"
        + (f", {summary.classes} classes" if summary.classes else "")
        + f"; {escaped(size_text(summary.size_bytes))} in <code>{escaped(summary.path)}</code></div>",
    ]
    if summary.accuracy is not None:
        parts.append(
            f'<div style="font-size:130%;margin:6px 0"><b>{escaped(accuracy_text(summary))}</b> '
            f'<span style="font-size:75%">right on {summary.test_images} test images</span></div>'
        )
    if summary.state == "unfinished" and summary.running:
        parts.append("<div>still being fine-tuned, by another process</div>")
    elif summary.state == "unfinished":
        parts.append("<div>not finished (or still running): <code>run.resume()</code> goes on with it</div>")
    if summary.problem is not None:
        parts.append(f"<div><b>damaged</b>: {escaped(summary.problem)}</div>")
    if summary.state == "finished":
        parts += _artifacts(folder, summary)
        parts += _pictures(folder)
        parts += _mistakes(folder)
    return f'<div style="line-height:1.5;color:inherit;background:transparent">{"".join(parts)}</div>'


def _artifacts(folder: RunFolder, summary: RunSummary) -> Iterator[str]:
    if not summary.artifacts:
        yield "<div>no artifacts yet: <code>run.export()</code> makes them</div>"
        return
    manifest = read_manifest(folder.bundle)
    head, *speeds = speed_table(manifest.artifacts) or [()]
    files = {row[0] for row in speeds}
    own = ("format", "verdict", "size")
    columns = [Column(title, "left") for title in own] + [Column(title) for title in head[1:]]
    lines = []
    for artifact in summary.artifacts:
        cells = (artifact.format, VERDICTS[artifact.verified], size_text(artifact.size_bytes))
        measured = [row for row in speeds if row[0] == artifact.file] or [(NONE,) * len(head)]
        lines += [Line((*cells, *row[1:])) for row in measured]
    yield table_html(Table(tuple(columns), tuple(lines)))
    if not files:
        yield "<div>not measured yet: <code>run.bench()</code></div>"
    for refused in manifest.not_exported:
        yield f"<div>{BAD} {escaped(refused.format)} was not exported: {escaped(refused.reason)}</div>"


def _pictures(folder: RunFolder) -> Iterator[str]:
    shown = []
    for name, title, width in PICTURES:
        content = _smaller(folder.path / name, 2 * width)
        if content is not None:
            style = f"max-width:100%;width:{width}px;border-radius:4px;background:white"
            shown.append(f'<img alt="{title}" style="{style}" src="{_inline(content, "png")}">')
    if shown:
        yield f'<div style="display:flex;flex-wrap:wrap;gap:10px;align-items:start">{"".join(shown)}</div>'


def _smaller(file: Path, width: int) -> bytes | None:
    """Return a picture as a small PNG file; None if there is none that can be read."""
    try:
        with Image.open(io.BytesIO(read_regular(file))) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    for side in (width, width // 2):
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        small.quantize(COLOURS).save(content, "PNG", optimize=True)
        if content.tell() <= LARGEST_PICTURE:
            return content.getvalue()
    return None


def _mistakes(folder: RunFolder) -> Iterator[str]:
    try:
        review = Review.load(folder.review_file, "toolkit finetune")
    except ToolkitError:  # of an older version, or damaged: the rest is shown without it
        return
    shown = [figure for image in review.mistakes[:MISTAKES] if (figure := _mistake(folder.path, image))]
    if shown:
        yield (
            f"<div>the most confident of {review.mistakes_in_all} mistakes:</div>"
            f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(shown)}</div>'
        )


def _mistake(run: Path, image: ReviewedImage) -> str | None:
    content = None if image.thumbnail is None else _thumbnail(run, image.thumbnail)
    if content is None:
        return None
    says = f"{image.label} taken for {image.predicted}, {image.probability:.0%}"
    return (
        f'<div style="max-width:110px;font-size:80%;overflow-wrap:anywhere" title="{escaped(image.name)}">'
        f'<img alt="" style="width:96px" src="{_inline(content, "jpeg")}"><br>{escaped(says)}</div>'
    )


def _thumbnail(run: Path, name: str) -> bytes | None:
    """Return a JPEG file below a run's folder; None where it is anything else."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
        return None
    try:
        content = read_regular(run / relative)
    except (OSError, ValueError):
        return None
    return content if content.startswith(b"\xff\xd8\xff") and len(content) <= LARGEST_THUMBNAIL else None


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
