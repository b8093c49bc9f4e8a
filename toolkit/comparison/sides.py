"""What is known of a side: the figures of a benchmark report, of a run, or of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from toolkit.bundle import ArtifactRecord, Manifest, read_manifest
from toolkit.compare.paired import right_images
from toolkit.errors import RunError
from toolkit.printable import printable
from toolkit.results import BenchReport, BenchRow, ComparedSide, Estimate, ParityState
from toolkit.run_folder import RunFolder

ALONE = "it was not measured, because the other side has none"
NOT_MEASURED = "measure both sides now with --measure, or run 'toolkit bench' on the run first"
Kind = Literal["report", "run", "bundle"]


@dataclass(frozen=True)
class Speed:
    """Throughput at one batch size."""

    throughput: Estimate
    rounds: tuple[float, ...] = ()
    """Images per second of each round; empty where only the estimate is known."""
    settled: bool | None = None
    starts: tuple[int, ...] = ()
    """How many of the rounds each start of the process made, in order; empty where it was started once."""


@dataclass(frozen=True)
class Scored:
    """What was said of test images."""

    accuracy: float
    images: int
    right: npt.NDArray[np.bool_] | None = None
    """Of each image, ``[images]``; None where it is not known."""


@dataclass(frozen=True)
class Row:
    """One way to run the model on one device."""

    name: str
    device: str
    threads: int
    missing: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    scored: Scored | None = None
    parity: ParityState | None = None
    speeds: Mapping[int, Speed] = field(default_factory=dict)
    """By batch size."""


@dataclass(frozen=True)
class Figures:
    """Everything that is compared of one side."""

    about: ComparedSide
    rows: tuple[Row, ...]
    test_images: str | None = None
    """Digest of what accuracy was measured on."""
    test_split: str | None = None
    """Digest of the same images as they are stored: two networks can take them at different sizes."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """What was given."""

    kind: Kind
    given: str
    """As the person wrote it, in printable characters."""
    run: RunFolder | None = None
    bundle: Path | None = None
    """Where its artifacts are, if it has any."""
    report: Path | None = None
    """``bench.json``, if there is one."""

    def figures(self) -> Figures:
        """Return what is known of it.

        Raises:
            RunError: it was never measured, or a record is malformed.
            BundleError: the bundle is malformed.
        """
        manifest = read_manifest(self.bundle) if self.bundle is not None else None
        verdicts = {} if manifest is None else {entry.sha256: parity_state(entry) for entry in manifest.artifacts}
        if self.report is not None and self.report.exists():
            report = BenchReport.load(self.report, "toolkit bench")
            if self.kind != "bundle" or any(row.sha256 in verdicts for row in report.rows):
                return figures_of_report(report, self.kind, verdicts)
        if manifest is None or not any(artifact.benchmarks for artifact in manifest.artifacts):
            if self.kind == "run" and self.run is not None:
                self.run.exported()  # says which command comes next, if it is an earlier one
            raise RunError(f"{self.given} was never measured: {NOT_MEASURED}.")
        return _figures_of_manifest(manifest, self.kind)


def one_measurement(a: Figures, b: Figures) -> bool:
    """Say whether both sides hold the figures of one and the same measurement, as a copy of a report does."""
    speeds = [{(row.name, row.device): row.speeds for row in side.rows if row.speeds} for side in (a, b)]
    return bool(speeds[0]) and speeds[0] == speeds[1]


def side_of_report(path: Path) -> Side:
    """Return the side of a ``bench.json``; one that lies where its run has it brings the run's verdicts along."""
    run = RunFolder(path.absolute().parent.parent)
    at_home = run.bench_file == path.absolute() and run.record_file.exists()
    return Side("report", printable(str(path)), run if at_home else None, _bundle_of(run) if at_home else None, path)


def side_of_run(run: RunFolder) -> Side:
    """Return the side of a run."""
    return Side("run", run.name, run, _bundle_of(run), run.bench_file)


def side_of_bundle(path: Path) -> Side:
    """Return the side of a bundle; one that lies in the folder of its run brings the run's report along."""
    run = RunFolder(path.resolve().parent)
    at_home = run.bundle == path.resolve() and run.record_file.exists()
    return Side("bundle", printable(str(path)), run if at_home else None, path, run.bench_file if at_home else None)


def figures_of_report(report: BenchReport, kind: Kind, verdicts: Mapping[str, ParityState] | None = None) -> Figures:
    """Return the figures of a report.

    Args:
        report: of ``toolkit bench``.
        kind: what it was read from.
        verdicts: what verification said of files, by digest.
    """
    hardware = report.provenance.hardware
    about = ComparedSide(
        kind=kind,
        name=report.run,
        model=report.model,
        data=report.data,
        measured=report.provenance.created,
        processor=hardware.processor,
        cores=hardware.cores,
        gpu=hardware.gpu,
        packages=report.provenance.packages,
    )
    remarks = () if report.machine is None else report.machine.remarks
    rows = tuple(_row(row, verdicts or {}) for row in report.rows)
    return Figures(about, rows, report.test_fingerprint, report.test_split_fingerprint, remarks)


def _row(row: BenchRow, verdicts: Mapping[str, ParityState]) -> Row:
    return Row(
        name=row.name,
        device=row.device,
        threads=row.threads,
        missing=row.missing,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        scored=_scored(row),
        parity=verdicts.get(row.sha256 or ""),
        speeds={
            timing.batch_size: Speed(timing.throughput, timing.rounds_images_per_second, timing.settled)
            for timing in row.timings
        },
    )


def _scored(row: BenchRow) -> Scored | None:
    if row.test_accuracy is None or row.test_images < 1:
        return None
    if not 0 <= row.test_accuracy <= 1:
        raise RunError(
            f"the report says that {row.name} has an accuracy of {row.test_accuracy:g}, which is no share of its test "
            "images: run 'toolkit bench' again."
        )
    try:
        right = None if row.correct is None else right_images(row.correct, row.test_images)
    except ValueError as error:
        raise RunError(
            f"the report does not say of each test image of {row.name} whether it was right ({error}): run 'toolkit "
            "bench' again."
        ) from error
    return Scored(row.test_accuracy, row.test_images, right)


def _figures_of_manifest(manifest: Manifest, kind: Kind) -> Figures:
    """Return what a bundle that travels without its run says of its speed."""
    measured = [(artifact, summary) for artifact in manifest.artifacts for summary in artifact.benchmarks]
    on_cpu = sorted({summary.processor for _, summary in measured if summary.device == "cpu"})
    on_gpu = sorted({summary.processor for _, summary in measured if summary.device != "cpu"})
    times = {summary.measured for _, summary in measured}
    about = ComparedSide(
        kind=kind,
        name=manifest.origin.run,
        model=model_of(manifest),
        data=manifest.origin.data,
        measured=times.pop() if len(times) == 1 else None,
        processor="; ".join(on_cpu) or None,
        cores=None,
        gpu="; ".join(on_gpu) or None,
        packages={},
    )
    rows = tuple(
        Row(
            name=artifact.format,
            device=summary.device,
            threads=summary.threads,
            sha256=artifact.sha256,
            size_bytes=artifact.total_bytes,
            parity=parity_state(artifact),
            speeds={
                # How many rounds there were is not in the manifest.
                summary.batch_size: Speed(
                    Estimate(median=summary.images_per_second, interval=summary.images_per_second_interval, rounds=0)
                )
            },
        )
        for artifact, summary in measured
    )
    remark = (
        f"the bundle of {manifest.origin.run} holds one batch size of each artifact with an interval, and no "
        "accuracy that can be compared: its run's bench.json has more"
    )
    return Figures(about, rows, remarks=(remark,))


def model_of(manifest: Manifest) -> str:
    """Return what a report calls the network of a bundle."""
    size = f"{manifest.preprocessing.height} x {manifest.preprocessing.width}"
    return f"{manifest.origin.backbone}, {size}, {len(manifest.labels)} classes"


def parity_state(artifact: ArtifactRecord) -> ParityState:
    """Return what verification has said of an artifact."""
    if artifact.parity is None:
        return "not verified"
    return "passed" if artifact.parity.passed else "failed"


def _bundle_of(run: RunFolder) -> Path | None:
    return run.bundle if run.bundle.is_dir() else None
