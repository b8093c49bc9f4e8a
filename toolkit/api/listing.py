"""The runs of a folder in brief: what ``toolkit runs`` and ``toolkit.runs()`` show, and how runs are deleted.

A run that has not finished, or whose records are damaged, is listed as such: nothing here fails because of one run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from toolkit.bundle import Manifest, read_manifest
from toolkit.bundle.manifest import MANIFEST_NAME
from toolkit.errors import FileWriteError, RunError, ToolkitError, first_line
from toolkit.files import expanded, follow_link, point_link, size_text
from toolkit.printable import printable
from toolkit.report import figures
from toolkit.report.tables import Column, Line, Table
from toolkit.results import Interval, Record
from toolkit.run_folder import ARTIFACTS, LATEST, WAIT, FinishedRun, RunFolder

LEFT = ".deleted"
"""How the names of folders end that are being deleted, or were when their process was killed."""

State = Literal["finished", "unfinished", "damaged"]
Verified = Literal["passed", "failed", "partly", "no"]


class ArtifactSummary(Record):
    """One exported file."""

    format: str
    file: str
    size_bytes: int
    verified: bool | None
    """Whether it has passed ``toolkit verify``; None where it was not verified."""


class RunSummary(Record):
    """One run in brief."""

    name: str
    path: str
    state: State
    """``unfinished`` is also what is still being fine-tuned: see ``running``."""
    running: bool = False
    """Whether a process is at work on it; always False where the system has no locks, on Windows."""
    problem: str | None = None
    """What is damaged, as a sentence."""
    data: str | None = None
    """The data source's name, or the path that it reads."""
    backbone: str | None = None
    classes: int | None = None
    accuracy: float | None = None
    """Share of the test images whose most probable class is right."""
    accuracy_interval: Interval | None = None
    test_images: int | None = None
    artifacts: tuple[ArtifactSummary, ...] = ()
    verified: Verified | None = None
    """What ``toolkit verify`` said of all artifacts together; None where there are none."""
    size_bytes: int
    """Of all files in its folder."""
    written: str
    """When fine-tuning finished, or an unfinished run was last written to: UTC time, ISO 8601."""


def list_runs(root: Path = ARTIFACTS) -> list[tuple[RunFolder, RunSummary]]:
    """Return the runs of a folder, each with what is said of it, the newest first."""
    listed = [(folder, summarise(folder)) for folder in _folders(root)]
    return sorted(listed, key=lambda pair: (pair[1].written, pair[1].name), reverse=True)


def summarise(folder: RunFolder) -> RunSummary:
    """Return one run in brief; never raises because a file of it is missing or damaged."""
    found: dict[str, object] = {}
    written = _last_change(folder.path)
    state: State = "damaged"
    problem = None
    try:
        recipe = folder.recipe()
        written = datetime.fromtimestamp(folder.last_written(), UTC)
        state = "unfinished"
        found |= {"data": recipe.data.source, "backbone": recipe.backbone.name}
        if os.path.lexists(folder.record_file):
            state = "damaged"
            record = FinishedRun.of(folder).record
            written = datetime.fromisoformat(record.provenance.created).astimezone(UTC)
            found |= {"data": record.data.source, "backbone": record.backbone, "classes": len(record.labels)}
            evaluation = folder.evaluation()
            found |= {
                "accuracy": evaluation.top1,
                "accuracy_interval": evaluation.top1_interval,
                "test_images": evaluation.images,
            }
            if os.path.lexists(folder.bundle / MANIFEST_NAME):
                manifest = read_manifest(folder.bundle)
                found |= {"artifacts": tuple(_artifacts(manifest)), "verified": _verified(manifest)}
            state = "finished"
    except (ToolkitError, OSError, ValueError) as error:
        problem = str(error) if isinstance(error, ToolkitError) else f"{first_line(error)}."
    return RunSummary.model_validate(
        found
        | {
            "name": folder.name,
            "path": printable(folder.path),
            "state": state,
            "running": folder.is_running(),
            "problem": problem,
            "size_bytes": size_of(folder.path),
            "written": written.isoformat(timespec="seconds"),
        }
    )


def runs_table(summaries: Sequence[RunSummary], now: datetime) -> Table:
    """Return one line a run."""
    columns = (
        Column("name", "left"),
        Column("data", "left"),
        Column("backbone", "left"),
        Column("accuracy [95%]"),
        Column("artifacts", "left"),
        Column("verified", "left"),
        Column("size"),
        Column("age"),
    )
    return Table(columns, tuple(Line(_cells(summary, now)) for summary in summaries))


def accuracy_text(summary: RunSummary) -> str:
    """Return the accuracy with its interval; of a run that has none, why."""
    if summary.accuracy is None:
        return "training" if summary.running and summary.state == "unfinished" else summary.state
    return figures.percent_interval(summary.accuracy, summary.accuracy_interval)


def data_text(summary: RunSummary) -> str:
    """Return the name of the data: of a path its last part."""
    return figures.NONE if summary.data is None else os.path.basename(summary.data.rstrip("/")) or summary.data


def age(written: str, now: datetime) -> str:
    """Return how long ago that was, in the largest unit."""
    seconds = (now - datetime.fromisoformat(written)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "now"


def find_deletable(names: Sequence[str], root: Path = ARTIFACTS) -> list[RunFolder]:
    """Return runs that may be deleted, by name or folder.

    Raises:
        RunError: one is no run, is a link, lies in another folder, or a process is at work on it; all of them are
            named, and nothing was deleted.
    """
    found: dict[Path, RunFolder] = {}
    problems = []
    for name in names:
        path = expanded(name)
        # A name, or a path that leads into this folder.
        inside = root / path.name if path.parent == Path() or _same(path.parent, root) else None
        if inside is None or path.name in ("", ".."):
            problems.append(f"{printable(name)} does not lie in {root} (--artifacts names another folder)")
        elif inside.name == LATEST:
            problems.append(f"{LATEST!r} only points to the newest run: give its name")
        elif inside.is_symlink():
            problems.append(f"{printable(inside)} is a link to {printable(os.readlink(inside))}: remove it yourself")
        elif not _is_run(inside):
            problems.append(f"{printable(name)} is no run in {root}")
        elif RunFolder(inside).is_running():
            problems.append(f"{printable(name)} is being written by a process: stop that, or wait for it to end")
        else:
            found[inside] = RunFolder(inside)
    if problems:
        names_there = ", ".join(folder.name for folder in _folders(root))
        there = f"runs there: {names_there}." if names_there else "there is none."
        raise RunError(f"nothing was deleted: {'; '.join(problems)}; {there}")
    return list(found.values())


def delete_run(run: RunFolder) -> int:
    """Delete a run, and point ``latest`` at the newest of the others if it pointed at this one.

    Args:
        run: one of ``find_deletable``.

    Returns:
        The bytes that were freed.

    Raises:
        RunError: another process is writing it.
        FileWriteError: it, or a part of it, cannot be deleted.
    """
    root, freed = run.path.parent, size_of(run.path)
    moved = root / f".{run.path.name}.{os.urandom(4).hex()}{LEFT}"
    with run.only_writer(WAIT), _unless_a_job_goes_on(run):
        try:
            # It is gone at once or not at all, also where this process is killed: what is left is no run.
            run.path.rename(moved)
            _point_latest(root)
            for left in root.glob(f".*{LEFT}"):
                shutil.rmtree(left)
        except OSError as error:
            raise FileWriteError(
                f"{printable(error.filename or run.path)} cannot be deleted: {error.strerror or error}."
            ) from error
    return freed


def _unless_a_job_goes_on(run: RunFolder) -> AbstractContextManager[None]:
    return run.whole_job() if run.recipe_file.exists() else nullcontext()


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder; links are not followed."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # it was removed meanwhile
                continue
    return total


def _point_latest(root: Path) -> None:
    """Point ``latest`` at the newest finished run, if it points at none."""
    link = root / LATEST
    if not os.path.lexists(link):
        return
    try:
        right = _is_run(follow_link(link))
    except (OSError, RuntimeError, ValueError):
        right = False
    if right:
        return
    newest = next((folder for folder, summary in list_runs(root) if summary.state == "finished"), None)
    if newest is None:
        link.unlink()
    else:
        point_link(link, newest.path)


def _folders(root: Path) -> Iterator[RunFolder]:
    if root.is_dir():
        yield from (RunFolder(path) for path in sorted(root.iterdir()) if path.name != LATEST and _is_run(path))


def _is_run(path: Path) -> bool:
    """Tell whether a folder has what a run begins with, or ends with."""
    run = RunFolder(path)
    hidden = path.name.startswith(".")
    return not hidden and path.is_dir() and any(map(os.path.lexists, (run.recipe_file, run.record_file)))


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _last_change(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return datetime.fromtimestamp(0, UTC)


def _artifacts(manifest: Manifest) -> Iterator[ArtifactSummary]:
    for artifact in manifest.artifacts:
        verified = None if artifact.parity is None else artifact.parity.passed
        yield ArtifactSummary(
            format=artifact.format, file=artifact.file, size_bytes=artifact.total_bytes, verified=verified
        )


def _verified(manifest: Manifest) -> Verified | None:
    verdicts = {None if artifact.parity is None else artifact.parity.passed for artifact in manifest.artifacts}
    if not verdicts:
        return None
    if False in verdicts:
        return "failed"
    return "passed" if verdicts == {True} else "no" if verdicts == {None} else "partly"


def _cells(summary: RunSummary, now: datetime) -> tuple[str, ...]:
    return (
        summary.name,
        data_text(summary),
        summary.backbone or figures.NONE,
        accuracy_text(summary),
        ", ".join(artifact.format for artifact in summary.artifacts) or figures.NONE,
        summary.verified or figures.NONE,
        size_text(summary.size_bytes),
        "running" if summary.running else age(summary.written, now),
    )
