"""Logging a run to the trackers that were asked for: whatever fails there is one sentence, and never ends the work.

A tracker that was asked for once is remembered in the run folder, with what it takes to go on where it stopped. What
it has not been told, because it was killed, or its server was away, is told by the next command that logs.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from toolkit.errors import FileWriteError, RunError, ToolkitError, first_line, raise_interruption
from toolkit.files import read_text
from toolkit.printable import printable_lines, without_credentials
from toolkit.results import BenchReport, ParityReport, Record
from toolkit.run_folder import RunFolder
from toolkit.trackers import figures
from toolkit.trackers.base import Log, TrackedRun
from toolkit.trackers.registry import usable
from toolkit.training.history import Epoch, read_history

FILE = "trackers.json"
"""In the run folder."""
MEANWHILE = "The work goes on, and the next command that logs this run makes up for it."
LONGEST_REASON = 300
"""Characters of somebody else's message in a sentence; those of MLflow quote whole requests."""


class Remembered(Record):
    """A tracker that was asked for."""

    tracker: str
    reference: str | None
    """Of its log; None where it could not be opened yet."""


class RememberedTrackers(Record):
    """``trackers.json``: where a run is logged, beside its folder. Remove the file to stop that."""

    trackers: tuple[Remembered, ...] = ()


def track(
    run: RunFolder,
    asked: Sequence[str] = (),
    *,
    parity: ParityReport | None = None,
    bench: BenchReport | None = None,
) -> None:
    """Log what is known of a run to its trackers: what these do not have of its training, and a new record.

    Args:
        run: fine-tuned already.
        asked: names of trackers, beside those that the run remembers.
        parity: what ``verify`` has just found out.
        bench: what ``bench`` has just measured.
    """
    with _opened(run, asked) as logs:
        for log in logs:
            log.catch_up()
            if parity is not None:
                log.parity(parity)
            if bench is not None:
                log.bench(bench)


class Following:
    """Logs a training while it runs: open it with ``with``, around the training and the drawing of its pictures."""

    def __init__(self, asked: Sequence[str], *, anew: bool) -> None:
        """Prepare; the trackers are opened once the training says which run it is.

        Args:
            asked: names of trackers, beside those that a run which goes on remembers.
            anew: whether the run starts from its beginning.
        """
        self._asked = asked
        self._anew = anew
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
            self._logs = _open_all(run, self._asked)
        for log in self._logs:
            log.epochs(epochs)

    def finish(self) -> None:
        """Log what the run folder has now, and try once more where something has failed."""
        for log in self._logs or ():
            log.retry()
            log.catch_up()


@contextmanager
def _opened(run: RunFolder, asked: Sequence[str]) -> Iterator[list[_Guarded]]:
    logs, finished = _open_all(run, asked), False
    try:
        yield logs
        finished = True
    finally:
        for log in logs:
            log.close(finished=finished)


def _open_all(run: RunFolder, asked: Sequence[str]) -> list[_Guarded]:
    remembered = _remembered(run)
    known = remembered | {name: None for name in asked if name not in remembered}
    if known != remembered:
        try:
            _remember(run, known)
        except FileWriteError as error:
            _say(f"{error} So the next command must be told again to track the run.")
    return [_Guarded(run, name, reference) for name, reference in known.items()]


def _remembered(run: RunFolder) -> dict[str, str | None]:
    if not (run.path / FILE).exists():
        return {}
    try:
        record = RememberedTrackers.load(run.path / FILE, "toolkit finetune --track")
    except RunError as error:
        _say(f"{error} Until then the run is logged to no tracker.")
        return {}
    return {entry.tracker: entry.reference for entry in record.trackers}


def _remember(run: RunFolder, references: dict[str, str | None]) -> None:
    entries = tuple(Remembered(tracker=name, reference=reference) for name, reference in references.items())
    RememberedTrackers(trackers=entries).save(run.path / FILE)


class _Guarded:
    """A tracker's log of a run, from which no exception comes: the first is said, and the tracker left out."""

    def __init__(self, run: RunFolder, name: str, reference: str | None) -> None:
        self._run = run
        self._name = name
        self._log: Log | None = None
        self._reference = reference
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
        """Log what the run folder has of the training and the tracker has not."""
        with self._guarded():
            self._write_epochs(read_history(self._run.history_file))
            self._write_evaluation()

    def parity(self, report: ParityReport) -> None:
        """Log a verdict."""
        with self._guarded():
            self._write_measured(figures.PARITY, figures.of_parity(report), figures.parity_text(report))

    def bench(self, report: BenchReport) -> None:
        """Log measurements, with the page that was written of them."""
        with self._guarded():
            page = self._run.bench / "report.md"
            self._write_measured(figures.BENCH, figures.of_bench(report), read_text(page) if page.is_file() else "")

    def close(self, *, finished: bool) -> None:
        """End the log."""
        log, self._log = self._log, None
        if log is not None:
            with self._guarded():
                log.close(finished=finished)

    def _open(self) -> None:
        tracked = TrackedRun(name=self._run.name, folder=self._run.path, root=self._run.path.parent)
        log = self._log = usable(self._name).open(tracked, self._reference)
        if self._reference is None:
            log.parameters(figures.hyperparameters(self._run.recipe()))
        if self._reference != log.reference:
            _remember(self._run, _remembered(self._run) | {self._name: log.reference})
            self._reference = log.reference
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

    def _write_measured(self, mark: str, values: dict[str, float], text: str) -> None:
        if self._log is None:
            return
        step = self._log.last_step(mark) + 1
        if text:
            self._log.text(mark.partition("/")[0], text, step)
        self._log.figures(values, step)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as failure:  # code of another package, which may raise anything
            raise_interruption(failure)
            if not self._has_failed:
                _say(f"the tracker {self._name!r} is left out from here on: {_reason(failure)} {MEANWHILE}")
            self._has_failed = True
            log, self._log = self._log, None
            if log is not None:
                with suppress(Exception):  # of what has just been said to have failed
                    log.close(finished=False)


def _reason(failure: Exception) -> str:
    if isinstance(failure, ToolkitError):
        return str(failure)
    return f"it failed ({textwrap.shorten(first_line(failure), LONGEST_REASON, placeholder=' ...')})."


def _say(sentence: str) -> None:
    """Write to standard error, also of a quiet command."""
    with suppress(OSError, AttributeError):  # there is none, or nobody reads it
        sys.stderr.write(f"toolkit: {printable_lines(without_credentials(sentence))}\n")
