"""Everything that a run's stages have written."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_runs import CIFAR10, write_full_run

from toolkit.errors import BundleError, RunError
from toolkit.report.records import RunRecords, read_records
from toolkit.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_full_run(tmp_path / "full", images=50, mistakes=1)


def test_what_is_there_is_read(run: RunFolder) -> None:
    records = read_records(run)
    assert None not in (records.parity, records.evaluation, records.review, records.record, records.history)
    assert records.manifest is None
    assert records.labels == CIFAR10
    assert records.recommendation.of("latency") is not None


def test_what_is_not_there_is_none(run: RunFolder) -> None:
    for file in (run.parity_file, run.evaluation_file, run.review_file, run.record_file, run.history_file):
        file.unlink()
    assert read_records(run) == RunRecords(read_records(run).bench, folder=run)
    assert read_records(run).labels == ()


def test_a_malformed_record_is_not_left_out_silently(run: RunFolder) -> None:
    run.review_file.write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"review\.json is not what 'toolkit finetune' writes"):
        read_records(run)
    run.review_file.unlink()
    run.bundle.mkdir()
    (run.bundle / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError):
        read_records(run)
