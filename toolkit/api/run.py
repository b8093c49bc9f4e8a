"""A run as an object: what fine-tuning made, what the later stages found out, and these stages as methods."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from toolkit.api.arguments import names_of, path_of, require_known, text_of
from toolkit.api.card import run_card
from toolkit.api.fields import ExportFields
from toolkit.api.listing import RunSummary, accuracy_text, data_text, list_runs, runs_table, summarise
from toolkit.api.shown import ShownBench, ShownParity, escaped, printed, table_html
from toolkit.api.stages import (
    require_exportable,
    require_measurable,
    require_verifiable,
    telling_of_lost_signature,
    verify_first,
)
from toolkit.bundle import Bundle
from toolkit.errors import RunError, require_count
from toolkit.files import follow_link, size_text
from toolkit.printable import printable
from toolkit.progress import working
from toolkit.progress.shown import reporter_for
from toolkit.recipe import Recipe, changes_of
from toolkit.report.pictures import read_history
from toolkit.report.terminal import print_list
from toolkit.results import BenchReport, Evaluation, Interval, ParityReport, Review
from toolkit.run_folder import ARTIFACTS, FinishedRun, RunFolder, RunRecord, find_run

if TYPE_CHECKING:
    from toolkit.bench.options import Asked as BenchAsked
    from toolkit.progress import Reporter
    from toolkit.report.pictures import History
    from toolkit.runtime import Predictor
    from toolkit.runtime.tuning import Purpose
    from toolkit.verify.options import Asked as VerifyAsked

CALL = "the call of Run.export"
GONE = "the run was moved or deleted, or never was"
IMAGES = 512
"""Test images that artifacts are compared on, unless somebody says how many."""


class Run:
    """One run. What it says is read from its files each time, so it is never out of date.

    Args:
        path: the run's folder; ``toolkit.open_run`` finds one by its name.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._given = RunFolder(_followed(path_of("path", path)))
        self._absolute = RunFolder(Path(os.path.abspath(self._given.path)))

    @property
    def folder(self) -> RunFolder:
        """The paths of its files: as the run's was given, or absolute where the working directory has changed since."""
        return self._given if Path(os.path.abspath(self._given.path)) == self._absolute.path else self._absolute

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def summary(self) -> RunSummary:
        """The run in brief; of an unfinished or damaged one, too."""
        return summarise(self.folder)

    @property
    def recipe(self) -> Recipe:
        """What it was asked to do.

        Raises:
            RunError: ``recipe.toml`` is missing or damaged.
        """
        return self._there().recipe()

    @property
    def record(self) -> RunRecord:
        """What fine-tuning made of it.

        Raises:
            RunError: it has not finished, or ``run.json`` is damaged.
        """
        return self._there().record()

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs; errors as of ``record``."""
        return self.record.labels

    @property
    def evaluation(self) -> Evaluation:
        """The one look at the test images.

        Raises:
            RunError: the run has not finished, or the file is damaged.
        """
        folder = self._there()
        folder.require_finished()
        return folder.evaluation()

    @property
    def accuracy(self) -> float:
        """Share of the test images whose most probable class is right; errors as of ``evaluation``."""
        return self.evaluation.top1

    @property
    def accuracy_interval(self) -> Interval:
        """The 95% Wilson interval of ``accuracy``; errors as of ``evaluation``."""
        return self.evaluation.top1_interval

    @property
    def history(self) -> History:
        """Loss and accuracy of each epoch, a list a column: ``pandas.DataFrame(vars(run.history))``.

        Raises:
            RunError: there is none yet, or it is damaged.
        """
        return read_history(self._there().history_file)

    @property
    def review(self) -> Review | None:
        """Mistakes and labels that are probably wrong; None where nobody has looked for them.

        Raises:
            RunError: the file is damaged.
        """
        file = self._there().review_file
        return Review.load(file, "toolkit finetune") if os.path.lexists(file) else None

    @property
    def bundle(self) -> Bundle:
        """The exported bundle, its files checked against its manifest.

        Raises:
            RunError: there is none yet.
            BundleError: a file of it is not the one that the manifest describes.
        """
        return Bundle.open(self._there().exported())

    @property
    def parity(self) -> ParityReport | None:
        """What ``verify`` found out; None where it has not run.

        Raises:
            RunError: the file is damaged.
        """
        file = self._there().parity_file
        return ShownParity.load(file, "toolkit verify") if os.path.lexists(file) else None

    @property
    def benchmark(self) -> BenchReport | None:
        """What ``bench`` found out; None where it has not run.

        Raises:
            RunError: the file is damaged.
        """
        file = self._there().bench_file
        return ShownBench.load(file, "toolkit bench") if os.path.lexists(file) else None

    def resume(self, *, progress: bool | Reporter = True) -> Run:
        """Go on with fine-tuning that was interrupted, from its newest checkpoint; does nothing if it has finished.

        Args:
            progress: False to say nothing.

        Raises:
            ToolkitError: it cannot go on, e.g. because its data have changed.
            StoppedError: it was interrupted again; it was saved.
        """
        from toolkit.api import resume_run

        folder = self._there()
        if not os.path.lexists(folder.record_file):
            resume_run(folder, progress)
        return self

    def export(
        self,
        formats: str | Sequence[str] | None = None,
        *,
        progress: bool | Reporter = True,
        **fields: Unpack[ExportFields],
    ) -> Run:
        """Write the run's bundle, replacing an older one, as ``toolkit export`` does.

        A format that is not good enough stands in ``run.bundle.manifest.not_exported`` with its reason, and in what the
        run shows of itself.

        Args:
            formats: e.g. ``"onnx,onnx-int8"``; the recipe's by default.
            progress: False to say nothing.
            fields: ``input``, ``profile``, ``opset``, ``ir``, ``max_drop``.

        Returns:
            This run.

        Raises:
            ToolkitError: see ``toolkit.export.export_run``.
        """
        given = {**fields, **({} if formats is None else {"formats": _plain(formats)})}
        run = FinishedRun.of(self._there())
        recipe = run.recipe.override(changes_of(given, CALL, "export."), CALL)
        reporter = reporter_for(progress)
        require_exportable(run, recipe.export, reporter)
        from toolkit.export import export_run

        with telling_of_lost_signature(self.folder.bundle, _warn):
            export_run(run, options=recipe.export, reporter=reporter)
        return self

    def verify(
        self, *, images: int | None = IMAGES, progress: bool | Reporter = True, **how: Unpack[VerifyAsked]
    ) -> ParityReport:
        """Compare every artifact with PyTorch, as ``toolkit verify`` does. A failed gate is a report that says so.

        Args:
            images: how many test images to draw; None is all of them.
            progress: False to say nothing.
            how: fields of ``toolkit.verify.options.VerifyOptions``.

        Returns:
            The verdicts: ``passed``, ``artifacts``, each with its ``failures``.

        Raises:
            ToolkitError: see ``toolkit.verify.run.verify_run``.
        """
        from toolkit.verify.options import Asked, VerifyOptions

        require_known("Run.verify", how, ["images", "progress", *Asked.__annotations__])
        if images is not None:
            images = require_count("images", images)
        reporter = how.setdefault("reporter", reporter_for(progress))
        VerifyOptions(**how)  # what is wrong is said before anything is computed
        run = FinishedRun.of(self._there())
        bundle = require_verifiable(run, reporter)
        from toolkit.trackers import track
        from toolkit.verify.run import verify_run

        with telling_of_lost_signature(bundle, _warn):
            report = verify_run(run, images=images, **how)
        track(self.folder, reporter=reporter)
        return ShownParity.of(report)

    def bench(self, *, progress: bool | Reporter = True, **options: Unpack[BenchAsked]) -> BenchReport:
        """Measure every artifact beside PyTorch, as ``toolkit bench`` does; verifies first what was not verified.

        Args:
            progress: False to say nothing.
            options: fields of ``toolkit.bench.BenchOptions``.

        Returns:
            The measurements: ``rows``, each with its ``timings`` or why it is ``missing``.

        Raises:
            ToolkitError: see ``toolkit.bench.stage.bench_run``.
        """
        run = FinishedRun.of(self._there())
        bundle = require_measurable(run)
        from toolkit.bench import BenchOptions, bench_run
        from toolkit.bench.options import Asked
        from toolkit.report import write_report
        from toolkit.trackers import track

        require_known("Run.bench", options, ["progress", *Asked.__annotations__])
        chosen, reporter = BenchOptions(**options), reporter_for(progress)
        with telling_of_lost_signature(bundle, _warn):
            verify_first(run, reporter, allow_code=chosen.allow_code)
            report = bench_run(run, chosen, reporter=reporter)
        with working(reporter, "writing the report"):
            write_report(self.folder)
        track(self.folder, reporter=reporter)
        return ShownBench.of(report)

    def report(self) -> list[Path]:
        """Write the reports and pictures of the run again, from its records.

        Returns:
            The files written.

        Raises:
            RunError: it was not measured yet.
        """
        from toolkit.report import write_pictures, write_report

        folder = self._there()
        folder.require_benchmark()
        return [*write_report(folder), *write_pictures(folder)]

    def predictor(
        self,
        artifact: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        tuned: Purpose | None = None,
    ) -> Predictor:
        """Open the run's bundle for prediction: ``toolkit.load`` with the bundle of this run.

        Args:
            artifact: format to use; the bundle's preferred one by default.
            device: ``"cpu"`` or ``"cuda"``.
            threads: CPU threads per call.
            tuned: ``"latency"`` or ``"throughput"``: the setting that ``run.bench(sweep=True)`` found the best.

        Raises:
            RunError: there is no bundle yet.
            ToolkitError: see ``toolkit.load``.
        """
        from toolkit.runtime import load

        return load(self._there().exported(), artifact, device, threads, tuned=tuned)

    def _there(self) -> RunFolder:
        """Return the paths of its files.

        Raises:
            RunError: its folder is not there.
        """
        folder = self.folder
        if not folder.path.is_dir():
            raise RunError(
                f"there is no folder {printable(folder.path)}: {GONE}; toolkit.runs() lists those there are."
            )
        return folder

    def __repr__(self) -> str:
        if not self.path.is_dir():
            return f"Run({printable(self.path)!r}): there is no such folder ({GONE})"
        summary = self.summary
        lines = [f"Run({summary.path!r}): {summary.backbone or 'unknown backbone'} on {data_text(summary)}"]
        if summary.problem is not None:
            lines.append(f"  damaged: {summary.problem}")
        if summary.state == "unfinished":
            lines.append(
                "  still being fine-tuned, by another process"
                if summary.running
                else "  not finished (or still running): run.resume() goes on with it"
            )
        if summary.accuracy is not None:
            lines.append(f"  accuracy {accuracy_text(summary)} on {summary.test_images} test images")
        words = {True: "verified", False: "FAILED", None: "not verified"}
        shown = [
            f"{artifact.format} ({size_text(artifact.size_bytes)}, {words[artifact.verified]})"
            for artifact in summary.artifacts
        ]
        if shown or summary.state == "finished":
            lines.append(f"  artifacts: {', '.join(shown) or 'none yet: run.export()'}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return run_card(self.folder, self.summary) if self.path.is_dir() else f"<div>{escaped(repr(self))}</div>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path.resolve() == other.path.resolve()

    def __hash__(self) -> int:
        return hash(self.path.resolve())


class Runs(Sequence[Run]):
    """The runs of a folder, the newest first: ``runs[0]``, or by name, ``runs["mine"]``."""

    def __init__(self, root: Path, listed: Iterable[tuple[RunFolder, RunSummary]]) -> None:
        self.root = root
        self._listed = tuple((Run(folder.path), summary) for folder, summary in listed)

    @property
    def summaries(self) -> tuple[RunSummary, ...]:
        """Each run in brief, as it was when the list was made."""
        return tuple(summary for _, summary in self._listed)

    @overload
    def __getitem__(self, index: int | str) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> Runs: ...

    def __getitem__(self, index: int | str | slice) -> Run | Runs:
        """Return a run by its place or name, or some of them.

        Raises:
            KeyError: there is no run of this name.
            IndexError: there are not so many.
        """
        if isinstance(index, slice):
            return Runs(self.root, ((run.folder, summary) for run, summary in self._listed[index]))
        if not isinstance(index, str):
            return self._listed[operator.index(index)][0]
        named = next((run for run, _ in self._listed if run.name == index), None)
        if named is None:
            raise KeyError(f"there is no run {index!r} in {self.root}")
        return named

    def __len__(self) -> int:
        return len(self._listed)

    def __repr__(self) -> str:
        if not self._listed:
            return f"no runs in {self.root}"
        return printed(lambda console: print_list(runs_table(self.summaries, datetime.now(UTC)), console))

    def _repr_html_(self) -> str:
        return table_html(runs_table(self.summaries, datetime.now(UTC)))


def runs(root: str | os.PathLike[str] = ARTIFACTS) -> Runs:
    """Return the runs of a folder, the newest first; unfinished and damaged ones, too."""
    folder = path_of("root", root)
    return Runs(folder, list_runs(folder))


def open_run(run: str | os.PathLike[str] | None = None, root: str | os.PathLike[str] = ARTIFACTS) -> Run:
    """Return a run by its name or its folder.

    Args:
        run: the name or the folder; the newest finished run by default.
        root: the folder of runs.

    Raises:
        ToolkitError: an argument is no path.
        RunError: there is no such run; the message lists those there are.
    """
    if run is not None:
        run = str(path_of("run", text_of("run", run, "its name, or a path")))
    found = find_run(run, path_of("root", root))
    if not found.recipe_file.exists() and not os.path.lexists(found.record_file):
        raise RunError(f"{found.path} is no run (it has no recipe.toml, which fine-tuning writes).")
    return Run(found.path)


def _followed(path: Path) -> Path:
    """Return where a link leads, so that a run stays the same when ``latest`` moves on."""
    try:
        return follow_link(path) if path.is_symlink() else path
    except (OSError, RuntimeError, ValueError):  # a link to itself
        return path


def _plain(formats: str | Sequence[str]) -> str | tuple[str, ...]:
    return formats if isinstance(formats, str) else names_of("formats", formats, "['onnx', 'onnx-int8']")


def _warn(said: str) -> None:
    warnings.warn(said, stacklevel=4)
