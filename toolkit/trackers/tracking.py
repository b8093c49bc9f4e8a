"""Logging a run to the trackers that were asked for: whatever fails there is one sentence, and never ends the work.

A tracker that was asked for once is remembered in the run folder, with what it takes to go on where it stopped. What
it has not been told, because a command was killed, or its server was away, is told by the next command that logs:
whoever logs brings the tracker up to what the run folder holds, and nobody hands over what has just been found out.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from toolkit.errors import FileWriteError, RunError, ToolkitError, first_line, raise_interruption
from toolkit.files import read_text
from toolkit.printable import printable, printable_lines, without_credentials
from toolkit.progress import Reporter, Silent, working
from toolkit.results import BenchReport, ParityReport, Record
from toolkit.run_folder import RunFolder
from toolkit.trackers import figures
from toolkit.trackers.base import FILE, Log, TrackedRun
from toolkit.trackers.registry import usable
from toolkit.training.history import Epoch, read_history

MEANWHILE = "The work goes on, and the next command that logs this run makes up for it."
LONGEST_REASON = 300
"""Characters of somebody else's message in a sentence; those of MLflow quote whole requests."""


class Remembered(Record):
    """A tracker that was asked for."""

    tracker: str
    reference: str | None
    """Of its log; None where it could not be opened yet."""
    run: str | None = None
    """Name of the folder by which it was opened last: in a copy, that of another run."""
    parity: str | None = None
    """When the verdicts were made that it has been told last."""
    bench: str | None = None
    """When the measurements were made that it has been told last."""


class RememberedTrackers(Record):
    """``trackers.json``: where a run is logged, beside its folder. Remove the file to stop that."""

    trackers: tuple[Remembered, ...] = ()


def track(run: RunFolder, asked: Sequence[str] = (), reporter: Reporter | None = None) -> None:
    """Log what the run folder has and its trackers have not: of its training, its verdicts and its measurements.

    Args:
        run: fine-tuned already.
        asked: names of trackers, beside those that the run remembers.
        reporter: shows which tracker is waited for.
    """
    logs, finished = _open_all(run, asked, reporter or Silent()), False
    try:
        for log in logs:
            log.catch_up()
        finished = True
    finally:
        for log in logs:
            log.close(finished=finished)


class Following:
    """Logs a training while it runs: open it with ``with``, around the training and the drawing of its pictures."""

    def __init__(self, asked: Sequence[str], *, anew: bool, reporter: Reporter | None = None) -> None:
        """Prepare; the trackers are opened once the training says which run it is.

        Args:
            asked: names of trackers, beside those that a run which goes on remembers.
            anew: whether the run starts from its beginning.
            reporter: shows which tracker is waited for.
        """
        self._asked = asked
        self._anew = anew
        self._reporter = reporter or Silent()
        self._logs: list[_Guarded] | None = None

    def __enter__(self) -> Following:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for log in self._logs or ():
            log.close(finished=kind is None)

    def observe(self, run: RunFolder, epochs: Sequence[Epoch]) -> None:
        """Log the epochs that are new: a ``training.history.EpochObserver``."""
        if self._logs is None:
            if self._anew:
                (run.path / FILE).unlink(missing_ok=True)
            self._logs = _open_all(run, self._asked, self._reporter)
        for log in self._logs:
            log.epochs(epochs)

    def finish(self) -> None:
        """Log what the run folder has now, and try once more where something has failed."""
        for log in self._logs or ():
            log.retry()
            log.catch_up()


def _open_all(run: RunFolder, asked: Sequence[str], reporter: Reporter) -> list[_Guarded]:
    try:
        remembered = _remembered(run)
    except RunError as error:
        _say(f"{error} Or remove it, to log the run anew. Until then it is logged to no tracker.")
        return []
    known = remembered | {name: Remembered(tracker=name, reference=None) for name in asked if name not in remembered}
    if known != remembered:
        try:
            _remember(run, known)
        except FileWriteError as error:
            _say(f"{error} So the next command must be told again to track the run.")
    return [_Guarded(run, entry, reporter) for entry in known.values()]


def _remembered(run: RunFolder) -> dict[str, Remembered]:
    """Return what is remembered of each tracker.

    Raises:
        RunError: the record is damaged.
    """
    if not (run.path / FILE).exists():
        return {}
    record = RememberedTrackers.load(run.path / FILE, "toolkit finetune --track")
    return {entry.tracker: entry for entry in record.trackers}


def _remember(run: RunFolder, entries: dict[str, Remembered]) -> None:
    RememberedTrackers(trackers=tuple(entries.values())).save(run.path / FILE)


class _Guarded:
    """A tracker's log of a run, from which no exception comes: the first is said, and the tracker left out."""

    def __init__(self, run: RunFolder, entry: Remembered, reporter: Reporter) -> None:
        self._run = run
        self._entry = entry
        self._reporter = reporter
        self._log: Log | None = None
        self._epochs_known: int | None = None
        self._has_failed = False
        with self._guarded():
            self._open()

    def retry(self) -> None:
        """Open the log again if it has failed; a second failure is not said."""
        if self._has_failed:
            with self._guarded():
                self._open()

    def epochs(self, epochs: Sequence[Epoch]) -> None:
        """Log the epochs that it does not have."""
        with self._guarded():
            self._write_epochs(epochs)

    def catch_up(self) -> None:
        """Log what the run folder has and the tracker has not."""
        with self._guarded():
            self._write_epochs(read_history(self._run.history_file))
            self._write_evaluation()
            self._write_parity()
            self._write_bench()

    def close(self, *, finished: bool) -> None:
        """End the log."""
        log, self._log = self._log, None
        if log is not None:
            with self._guarded():
                log.close(finished=finished)

    def _open(self) -> None:
        folder = Path(os.path.abspath(self._run.path))
        name, reference = printable(folder.name), self._entry.reference
        tracked = TrackedRun(name, folder, folder.parent, copied=_is_copy(folder, self._entry))
        log = self._log = usable(self._entry.tracker).open(tracked, reference)
        changes: dict[str, str | None] = {"reference": log.reference, "run": name}
        if reference != log.reference:
            log.parameters(figures.hyperparameters(self._run.recipe()))
            changes |= {"parity": None, "bench": None}
        self._update(changes)
        self._epochs_known = None

    def _write_epochs(self, epochs: Sequence[Epoch]) -> None:
        if self._log is None:
            return
        if self._epochs_known is None:
            self._epochs_known = self._log.last_step(figures.EPOCHS)
        for step, epoch in enumerate(epochs[self._epochs_known :], start=self._epochs_known + 1):
            self._log.figures(figures.of_epoch(epoch), step)
            self._epochs_known = step

    def _write_evaluation(self) -> None:
        if self._log is None or not self._run.evaluation_file.exists() or self._log.last_step(figures.EVALUATION):
            return
        for picture in sorted(self._run.path.glob("*.png")):
            self._log.picture(picture.stem, picture, 1)
        # Last, because by it is seen that all of this is there.
        self._log.figures(figures.of_evaluation(self._run.evaluation()), 1)

    def _write_parity(self) -> None:
        if self._log is None or not self._run.parity_file.exists():
            return
        report = ParityReport.load(self._run.parity_file, "toolkit verify")
        if (made := report.provenance.created) != self._entry.parity:
            self._write_measured(figures.PARITY, figures.of_parity(report), figures.parity_text(report))
            self._update({"parity": made})

    def _write_bench(self) -> None:
        if self._log is None or not self._run.bench_file.exists():
            return
        report = BenchReport.load(self._run.bench_file, "toolkit bench")
        if (made := report.provenance.created) != self._entry.bench:
            page = self._run.bench / "report.md"
            self._write_measured(figures.BENCH, figures.of_bench(report), read_text(page) if page.is_file() else "")
            self._update({"bench": made})

    def _write_measured(self, mark: str, values: dict[str, float], text: str) -> None:
        assert self._log is not None  # whoever comes here has asked
        step = self._log.last_step(mark) + 1
        if text:
            self._log.text(mark.partition("/")[0], text, step)
        self._log.figures(values, step)

    def _update(self, changes: dict[str, str | None]) -> None:
        """Remember something of the tracker."""
        entry = Remembered.model_validate(self._entry.model_dump() | changes)
        if entry != self._entry:
            _remember(self._run, _remembered(self._run) | {entry.tracker: entry})
            self._entry = entry

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with working(self._reporter, f"telling the tracker {self._entry.tracker!r}"):
                yield
        except (Exception, SystemExit) as failure:  # code of another package, which may raise anything
            raise_interruption(failure)
            if not self._has_failed:
                _say(f"the tracker {self._entry.tracker!r} is left out from here on: {_reason(failure)} {MEANWHILE}")
            self._has_failed = True
            log, self._log = self._log, None
            if log is not None:
                with suppress(Exception, SystemExit):  # of what has just been said to have failed
                    log.close(finished=False)


def _is_copy(folder: Path, entry: Remembered) -> bool:
    """Tell whether a run that has another name than when it was logged last shares its log with one beside it."""
    if entry.reference is None or entry.run in (None, printable(folder.name)):
        return False
    for other in folder.parent.glob(f"*/{FILE}"):
        if not other.parent.samefile(folder):
            with suppress(RunError):  # it is damaged, so nothing is logged by it
                found = _remembered(RunFolder(other.parent)).get(entry.tracker)
                if found is not None and found.reference == entry.reference:
                    return True
    return False


def _reason(failure: BaseException) -> str:
    if isinstance(failure, ToolkitError):
        return str(failure)
    return f"it failed ({textwrap.shorten(first_line(failure), LONGEST_REASON, placeholder=' ...')})."


def _say(sentence: str) -> None:
    """Write to standard error, also of a quiet command."""
    with suppress(OSError, AttributeError):  # there is none, or nobody reads it
        sys.stderr.write(f"toolkit: {printable_lines(without_credentials(sentence))}\n")
