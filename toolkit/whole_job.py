"""The whole job: fine-tune, export, verify, measure and report, one after the other, up to the first gate that fails.

What is there already is kept when a job goes on: a finished fine-tuning, a bundle of these weights in these formats,
verdicts that passed, figures of these artifacts. The stages meet through files only, so that it makes no difference
whether a command, this, or a person with single commands made them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from toolkit.api import train
from toolkit.bundle.manifest import MANIFEST_NAME
from toolkit.errors import RecipeError
from toolkit.formats.profiles import resolve
from toolkit.progress import Reporter, Silent, working
from toolkit.recipe import parse_recipe
from toolkit.report import write_pictures, write_report
from toolkit.results import BenchReport, ParityReport
from toolkit.run_folder import ARTIFACTS, FinishedRun, RunFolder, find_run, unfinished_in
from toolkit.trackers import track

if TYPE_CHECKING:
    from toolkit.bench import BenchOptions
    from toolkit.bundle.manifest import Manifest
    from toolkit.recipe import ExportRecipe, Recipe

Stage = Literal["finetune", "export", "verify", "bench", "report"]
STAGES: tuple[Stage, ...] = ("finetune", "export", "verify", "bench", "report")
"""In the order of the work."""


@dataclass(frozen=True)
class Job:
    """What is to be done."""

    recipe: Recipe
    """Of a new run; of any its ``export`` says which formats."""
    name: str | None = None
    """Of the run; made of data, backbone and time by default."""
    root: Path = ARTIFACTS
    """Folder of runs."""
    resume: RunFolder | None = None
    """The run to go on with, see ``run_to_resume``; None starts a new one."""
    device: str = "cpu"
    """Where artifacts are verified."""
    threads: int | None = None
    """CPU threads of verification."""
    images: int | None = 512
    """How many test images are compared; None is all of them."""
    bench: BenchOptions | None = None
    """How to measure; None is the default."""
    trackers: tuple[str, ...] = ()
    """Trackers that the run is also logged to, beside those that it remembers."""


@dataclass(frozen=True)
class Done:
    """What a stage left."""

    stage: Stage
    run: RunFolder
    record: Any
    """Of finetune its ``Evaluation``, of export the ``Manifest``, of verify the ``ParityReport``, of bench the
    ``BenchReport``, of report the paths of its files."""
    kept: bool
    """Whether it was there already."""
    passed: bool = True
    """Whether its gate lets the job go on."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    run: RunFolder
    done: tuple[Done, ...] = field(default=())
    """Every stage that ended, the failed one last."""

    @property
    def failed(self) -> Stage | None:
        """The stage whose gate failed; None if all passed."""
        return next((each.stage for each in self.done if not each.passed), None)


def run_to_resume(name: str | None = None, root: Path = ARTIFACTS) -> RunFolder:
    """Find the run to go on with: the named one, or the one that was worked on last.

    Args:
        name: a run's name in ``root``, or its path.
        root: folder of runs.

    Raises:
        RunError: there is none.
    """
    if name is not None:
        return find_run(name, root)
    unfinished = unfinished_in(root)
    if not unfinished:
        return find_run(None, root)
    last = unfinished[-1]
    if os.path.lexists(root / "latest"):
        newest = find_run(None, root)
        if newest.record_file.exists() and newest.record_file.stat().st_mtime > last.last_written():
            return newest
    return last


def run_job(
    job: Job,
    *,
    reporter: Reporter | None = None,
    begins: Callable[[Stage], None] = lambda stage: None,
    ended: Callable[[Done], None] = lambda done: None,
) -> Outcome:
    """Do the whole job, or what is left of it. A failed gate ends it and is no exception.

    Started by ``torchrun``, the first process does what comes after fine-tuning.

    Args:
        job: what to do.
        reporter: where progress goes; nowhere by default.
        begins: told of every stage that is about to begin.
        ended: told of every stage that has ended, or was there already.

    Raises:
        ToolkitError: a stage cannot be done; what was done before stays.
        KeyboardInterrupt: Ctrl-C; what was done before stays, and the stage that was going on has left nothing behind,
            or a checkpoint.
    """
    reporter = reporter or Silent()
    done: list[Done] = []
    run = None if job.resume is None else job.resume
    with ExitStack() as running:
        if run is not None and _leads():
            running.enter_context(run.whole_job())
        for stage in STAGES:
            begins(stage)
            result = _STAGES[stage](job, run, reporter)
            if run is None and _leads():
                running.enter_context(result.run.whole_job())
            run = result.run
            if not _leads():
                break
            ended(result)
            done.append(result)
            if not result.passed:
                break
    assert run is not None  # the first stage returns one
    return Outcome(run, tuple(done))


def _leads() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _finetune(job: Job, run: RunFolder | None, reporter: Reporter) -> Done:
    kept = run is not None and run.record_file.exists()
    if run is None:
        run = train(job.recipe, name=job.name, root=job.root, reporter=reporter, trackers=job.trackers)
    elif not kept:
        # Its own recipe: what is to be exported may have changed, and is no part of the training.
        run = train(
            run.recipe(), name=run.name, root=run.path.parent, resume=True, reporter=reporter, trackers=job.trackers
        )
    return Done("finetune", run, run.evaluation() if _leads() else None, kept)


def _export(job: Job, run: RunFolder | None, reporter: Reporter) -> Done:
    finished = FinishedRun.of(_there(run))
    manifest = exported_as(finished, job.recipe.export)
    kept = manifest is not None
    if manifest is None:
        from toolkit.export import export_run

        manifest = export_run(finished, options=job.recipe.export, reporter=reporter)
    return Done("export", finished.folder, manifest, kept, passed=not manifest.not_exported)


def _verify(job: Job, run: RunFolder | None, reporter: Reporter) -> Done:
    finished = FinishedRun.of(_there(run))
    report = verdicts_of(finished.folder, job.device, job.images)
    kept = report is not None
    if report is None:
        from toolkit.verify.run import verify_run

        report = verify_run(finished, images=job.images, device=job.device, threads=job.threads, reporter=reporter)
        track(finished.folder, job.trackers, reporter)
    return Done("verify", finished.folder, report, kept, report.passed)


def _bench(job: Job, run: RunFolder | None, reporter: Reporter) -> Done:
    from toolkit.bench import BenchOptions, bench_run

    options = job.bench or BenchOptions()
    folder = _there(run)
    report = figures_of(folder, options)
    kept = report is not None
    if report is None:
        report = bench_run(FinishedRun.of(folder), options, reporter=reporter)
    else:
        _record_in_new_bundle(folder, report)
    return Done("bench", folder, report, kept, any(row.missing is None for row in report.rows))


def _report(job: Job, run: RunFolder | None, reporter: Reporter) -> Done:
    folder = _there(run)
    with working(reporter, "writing the report"):
        files = write_report(folder)
        write_pictures(folder)
    track(folder, job.trackers, reporter)  # of the figures too: the report goes with them
    return Done("report", folder, tuple(files), kept=False)


_STAGES: dict[Stage, Callable[[Job, RunFolder | None, Reporter], Done]] = {
    "finetune": _finetune,
    "export": _export,
    "verify": _verify,
    "bench": _bench,
    "report": _report,
}


def _there(run: RunFolder | None) -> RunFolder:
    assert run is not None  # fine-tuning comes first
    return run


def exported_as(run: FinishedRun, options: ExportRecipe) -> Manifest | None:
    """Return the manifest of a run's bundle if it is of these weights and has what is asked for; None otherwise.

    A bundle that lacks a format because none was good enough is none of these: it is tried again.

    Raises:
        BundleError: the bundle cannot be read, or a file of it was changed.
    """
    from toolkit.bundle import Bundle

    if not os.path.lexists(run.folder.bundle / MANIFEST_NAME):
        return None
    manifest = Bundle.open(run.folder.bundle).manifest
    versions = resolve(options.profile, options.opset, options.ir)
    same = (
        manifest.origin.model_sha256 == run.record.model_sha256
        and not manifest.not_exported
        and {artifact.format for artifact in manifest.artifacts} == set(options.formats)
        and manifest.input.normalization_in_graph == (options.input == "images")
        and all(
            asked == before if asked is None else found in (None, asked)
            for artifact in manifest.artifacts
            for asked, before, found in zip(
                versions, _versions_asked(manifest), (artifact.opset, artifact.ir_version), strict=True
            )
        )
        and all(
            artifact.quantization is None or artifact.quantization.max_drop_points == options.max_drop
            for artifact in manifest.artifacts
        )
    )
    return manifest if same else None


def _versions_asked(manifest: Manifest) -> tuple[int | None, int | None]:
    """Return the opset and the IR version that a bundle was asked for; one of toolkit 0.2.0 or before does not say."""
    try:
        asked = parse_recipe(manifest.origin.recipe, MANIFEST_NAME).export
    except RecipeError:  # of another version
        return None, None
    return resolve(asked.profile, asked.opset, asked.ir)


def verdicts_of(run: RunFolder, device: str, images: int | None) -> ParityReport | None:
    """Return the parity report of a run if every artifact of its bundle passed as is asked; None otherwise.

    Args:
        run: a finished run.
        device: on which it passed.
        images: test images that it passed on at least; None is all of them.
    """
    from toolkit.bundle import Bundle

    if not run.parity_file.exists():
        return None
    report = ParityReport.load(run.parity_file, "toolkit verify")
    verdicts = [artifact.parity for artifact in Bundle.open(run.bundle).manifest.artifacts]
    there = run.record().data.splits["test"].images
    enough = there if images is None else min(images, there)
    passed = all(
        verdict is not None
        and verdict.passed
        and verdict.device == device
        and verdict.test_images >= enough
        and not verdict.limits  # other ones than the usual, which somebody gave
        for verdict in verdicts
    )
    return report if passed and report.passed else None


def figures_of(run: RunFolder, options: BenchOptions) -> BenchReport | None:
    """Return the benchmark of a run if it has the artifacts of its bundle, measured as is asked; None otherwise.

    Figures that came of more rounds are good enough, and so are those that needed no more.
    """
    from toolkit.bench.options import BenchOptions
    from toolkit.bench.rows import devices
    from toolkit.bundle import Bundle

    if not run.bench_file.exists():
        return None
    report = BenchReport.load(run.bench_file, "toolkit bench")
    wanted = {artifact.sha256 for artifact in Bundle.open(run.bundle).manifest.artifacts}
    sizes = {timing.batch_size for row in report.rows for timing in row.timings}
    on = {row.device for row in report.rows}
    same = (
        # The rows of PyTorch itself run the weights.
        wanted == {row.sha256 for row in report.rows} - {None, run.record().model_sha256}
        and set(options.batch_sizes) == sizes
        and set(devices(options.device)) == on
        and {row.threads for row in report.rows} == {options.thread_count}
        and (
            options.rounds <= (BenchOptions.rounds if report.most_rounds is None else report.most_rounds)
            or all(timing.settled for row in report.rows for timing in row.timings)
        )
    )
    return report if same else None


def _record_in_new_bundle(run: RunFolder, report: BenchReport) -> None:
    """Write figures that were kept into the manifest of a bundle that was made anew with the very same files."""
    from toolkit.bundle import read_manifest
    from toolkit.bundle.recording import record_benchmarks

    measured = {row.sha256 for row in report.rows if row.timings}
    if any(not each.benchmarks and each.sha256 in measured for each in read_manifest(run.bundle).artifacts):
        record_benchmarks(run.bundle, report)
