from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bench_rows import missing
from finished_runs import write_finished_run

from toolkit import provenance
from toolkit.results import BenchReport
from toolkit.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]

HISTORY = (
    "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"
    "1,1,2.0,0.3,1.9,0.4,0.001,0,1\n"
)


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run with everything that a report is made of."""
    run = write_finished_run(tmp_path / "artifacts" / "small")
    run.history_file.write_text(HISTORY, encoding="utf-8")
    row = missing("onnx", "cpu", "the worker was killed")
    report = BenchReport(
        run="small", model="a model", data="made", rows=(row,), seconds=1.0, provenance=provenance.collect()
    )
    report.save(run.bench_file)
    return run


def test_everything_is_written_again_and_the_table_printed(run: Run, finished: RunFolder) -> None:
    leftover = finished.path / ".model.0a1b2c3d.part.safetensors"
    leftover.touch()
    code, out, err = run("report", "--run", "small", "--artifacts", finished.path.parent)
    assert (code, err) == (0, "")
    assert "small: a model" in out
    assert "onnx on cpu is not measured: the worker was killed" in out
    wrote = f"wrote {finished.bench / 'bench.csv'}, {finished.bench / 'report.md'}"
    assert out.splitlines()[-1] == f"{wrote}; next: toolkit predict {finished.path} IMAGES"
    assert {"learning_curves.png", "confusion.png"} <= {path.name for path in finished.path.iterdir()}
    assert not leftover.exists()


def test_a_run_without_benchmark_names_the_command_that_is_missing(run: Run, finished: RunFolder) -> None:
    finished.bench_file.unlink()
    code, out, err = run("report", "--run", finished.path)
    assert (code, out) == (2, "")
    assert err == f"toolkit: the run 'small' has no bundle yet: run 'toolkit export --run {finished.path}' first.\n"
    finished.bundle.mkdir()
    (finished.bundle / "manifest.json").touch()
    code, out, err = run("report", finished.path)
    assert (code, out) == (2, "")
    assert err == f"toolkit: the run 'small' was not measured yet: run 'toolkit bench --run {finished.path}' first.\n"
