"""Everything that a run's stages have written, read once: what reports are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass

from toolkit.bundle.folder import read_manifest
from toolkit.bundle.manifest import MANIFEST_NAME, Manifest
from toolkit.report.pictures import History, read_history
from toolkit.report.recommendation import Recommendation, recommend
from toolkit.results import BenchReport, Evaluation, ParityReport, Review
from toolkit.run_folder import RunFolder, RunRecord


@dataclass(frozen=True)
class RunRecords:
    """The records of one run. What a stage has not written, or an older version did not write, is None."""

    bench: BenchReport
    parity: ParityReport | None = None
    evaluation: Evaluation | None = None
    review: Review | None = None
    record: RunRecord | None = None
    manifest: Manifest | None = None
    history: History | None = None
    folder: RunFolder | None = None
    """Where thumbnails lie; None for records alone."""

    @property
    def name(self) -> str:
        """Of the run: that of its folder, which may have been renamed since it was measured."""
        return self.bench.run if self.folder is None else self.folder.path.resolve().name

    @property
    def recommendation(self) -> Recommendation:
        """What to ship."""
        return recommend(self.bench, self.parity, self.manifest)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the outputs; empty where no record names them."""
        if self.record is not None:
            return self.record.labels
        return () if self.evaluation is None else tuple(score.label for score in self.evaluation.classes)


def read_records(run: RunFolder) -> RunRecords:
    """Read the records of a run that was measured.

    Raises:
        RunError: ``bench.json`` is missing, or a record is malformed.
        BundleError: the manifest is malformed.
    """
    return RunRecords(
        bench=BenchReport.load(run.bench_file, "toolkit bench"),
        parity=ParityReport.load(run.parity_file, "toolkit verify") if run.parity_file.exists() else None,
        evaluation=run.evaluation() if run.evaluation_file.exists() else None,
        review=Review.load(run.review_file, "toolkit finetune") if run.review_file.exists() else None,
        record=run.record() if run.record_file.exists() else None,
        manifest=read_manifest(run.bundle) if os.path.lexists(run.bundle / MANIFEST_NAME) else None,
        history=read_history(run.history_file) if run.history_file.exists() else None,
        folder=run,
    )
