"""A finished, exported, verified and measured run in the folder ``artifacts``, made in a fraction of a second.

Its bundle is the one of the fixture ``colour_bundle``, said to be of the run's weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench_rows import missing
from finished_runs import write_finished_run

from toolkit import provenance
from toolkit.bundle import read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.results import BenchReport, ParityReport
from toolkit.run_folder import RunFolder

HISTORY = (
    "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"
    "1,1,2.0,0.3,1.9,0.4,0.001,0,1\n"
)


def write_whole_run(artifacts: Path, colour_bundle: Path, name: str = "tiny") -> RunFolder:
    """Write the run and point ``latest`` at it."""
    run = write_finished_run(artifacts / name)
    run.history_file.write_text(HISTORY, encoding="utf-8")
    shutil.copytree(colour_bundle, run.bundle)
    manifest = read_manifest(run.bundle)
    origin = manifest.origin.model_copy(update={"model_sha256": run.record().model_sha256})
    write_manifest(run.bundle, manifest.model_copy(update={"origin": origin}))
    made = provenance.collect()
    BenchReport(
        run=name, model="m", data="d", rows=(missing("onnx", "cpu", "killed"),), seconds=1.0, provenance=made
    ).save(run.bench_file)
    ParityReport(run=name, reference="PyTorch", passed=True, artifacts=(), provenance=made).save(run.parity_file)
    run.make_latest()
    return run
