"""A finished run without a network, records that are made up, and a database of MLflow made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench_rows import missing
from once import made_once
from PIL import Image

from toolkit import provenance
from toolkit.compare.metrics import evaluate
from toolkit.recipe import Recipe
from toolkit.results import (
    ArtifactParity,
    BatchTiming,
    BenchReport,
    BenchRow,
    ErrorStatistics,
    Estimate,
    Evaluation,
    Interval,
    Latency,
    OutputParity,
    ParityReport,
    Tolerance,
)
from toolkit.run_folder import RunFolder
from toolkit.trackers.mlflow import DATABASE, FOLDER
from toolkit.training.history import Epoch, write_history

EPOCHS = [
    Epoch(1, 1, 0.75, 0.5, 0.5, 0.625, 0.25, 0.0, 12.5),
    Epoch(1, 2, 0.5, 0.75, 0.25, 0.75, 0.25, 0.0, 12.0),
    Epoch(2, 1, 0.25, 0.875, 0.125, 1.0, 0.125, 0.0625, 14.0),
]
"""Numbers that float32 and six digits hold exactly."""


def write_run(folder: Path, epochs: int = len(EPOCHS)) -> RunFolder:
    """Write what training leaves of a run that has been trained so far."""
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    Recipe().save(run.recipe_file)
    write_history(run.history_file, EPOCHS[:epochs])
    return run


def finish(run: RunFolder) -> None:
    """Write what is there once the training has ended: an evaluation of 3 right in 4, and a picture."""
    logits = np.array([[2.0, 0], [0, 2], [2, 0], [2, 0]])
    evaluate(logits, np.array([0, 1, 0, 1]), ("a", "b"), "test").save(run.evaluation_file)
    Image.new("RGB", (12, 8)).save(run.path / "confusion.png")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    written = write_run(tmp_path / "artifacts" / "mine")
    finish(written)
    return written


@pytest.fixture
def evaluation(run: RunFolder) -> Evaluation:
    return run.evaluation()


@pytest.fixture
def parity() -> ParityReport:
    statistics = ErrorStatistics(
        elements=20, max_absolute=0.25, mean_absolute=0.1, p99_absolute=0.2, max_relative=0.125, min_cosine=0.5
    )

    def artifact(name: str, passed: bool) -> ArtifactParity:
        return ArtifactParity(
            artifact=name,
            file=f"model.{name}",
            sha256="a" * 64,
            passed=passed,
            failures=() if passed else ("the logits differ by 0.25",),
            device="cpu",
            engine="engine 1.0",
            threads=1,
            test_images=16,
            edge_inputs=0,
            batch_sizes=(1,),
            outputs=(OutputParity(output="logits", statistics=statistics),),
            top1_agreement=0.75,
            flips=(),
            tolerance=Tolerance(
                precision="float32", logits_absolute=1.0, logits_relative=1.0, probabilities_absolute=1.0
            ),
            seconds=1.0,
        )

    return ParityReport(
        run="mine",
        reference="PyTorch",
        passed=False,
        artifacts=(artifact("onnx", True), artifact("torchscript", False)),
        provenance=provenance.collect(),
        not_judged={"model.xml": "openvino is not installed"},
    )


@pytest.fixture
def bench() -> BenchReport:
    timing = BatchTiming(
        batch_size=32,
        throughput=Estimate(median=512.0, interval=Interval(low=500.0, high=520.0), rounds=7),
        latency=Latency(p50_seconds=0.0625, p95_seconds=0.125, p99_seconds=0.25, calls=70),
    )
    row = BenchRow(
        name="onnx",
        file="model.onnx",
        sha256="a" * 64,
        device="cpu",
        missing=None,
        engine="engine 1.0",
        threads=2,
        timings=(timing,),
        load_seconds=0.5,
        peak_memory_bytes=2**20,
        size_bytes=2**10,
        test_accuracy=0.75,
        test_accuracy_interval=None,
        test_images=4,
    )
    return BenchReport(
        run="mine",
        model="a model",
        data="digits",
        rows=(row, missing("onnx", "cuda", "there is no GPU")),
        seconds=1.0,
        provenance=provenance.collect(),
    )


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow without an experiment of ours: making its tables takes more than a second."""

    def make(folder: Path) -> None:
        import warnings

        from mlflow.tracking.client import MlflowClient

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            MlflowClient(f"sqlite:///{folder / DATABASE}")

    return made_once(tmp_path_factory, "mlflow", make) / DATABASE


@pytest.fixture
def with_database(empty_database: Path) -> Callable[[Path], None]:
    """Return what puts that database where the runs of a folder are logged."""

    def put(root: Path) -> None:
        (root / FOLDER).mkdir(parents=True)
        shutil.copy(empty_database, root / FOLDER / DATABASE)

    return put


@pytest.fixture(autouse=True)
def nobody_names_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
