"""The whole way on a CUDA device: fine-tuning in each precision, and the artifacts against PyTorch there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import toolkit
from toolkit.bench import bench_run
from toolkit.export import export_run
from toolkit.finetune.stage import finetune_run
from toolkit.progress import Silent
from toolkit.recipe import Recipe, load_recipe
from toolkit.runs import RunFolder
from toolkit.verify.run import verify_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def short_recipe(**fields: object) -> Recipe:
    return load_recipe("digits").override({"train.device": "cuda", "stage2.epochs": 3, **fields})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was trained on CUDA and exported to every format that can run there."""
    recipe = short_recipe().override({"export.formats": ("onnx", "onnx-fp16", "torchscript", "pt2")})
    run = finetune_run(recipe, name="run", root=tmp_path_factory.mktemp("runs"))
    export_run(run)
    return run


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_fine_tuning_learns_in_every_precision(tmp_path: Path, precision: str) -> None:
    run = finetune_run(short_recipe(**{"train.precision": precision}), name="run", root=tmp_path)
    assert run.record().precision == precision
    assert run.record().device.startswith("cuda")
    assert run.evaluation().top1 > 0.9


def test_every_artifact_agrees_on_the_device(exported: RunFolder) -> None:
    report = verify_run(exported, device="cuda")
    assert {artifact.artifact: artifact.failures for artifact in report.artifacts if not artifact.passed} == {}
    assert {artifact.device for artifact in report.artifacts} == {"cuda"}
    assert report.passed


def test_every_row_of_the_benchmark_ran_on_the_device(exported: RunFolder) -> None:
    verify_run(exported, images=32)
    report = bench_run(exported, device="cuda", rounds=2, min_seconds=0.02, accuracy_images=64)
    assert {row.name: row.missing for row in report.rows if row.missing} == {}
    assert {row.device for row in report.rows} == {"cuda"}
    assert all(timing.throughput.median > 0 for row in report.rows for timing in row.timings)
    assert all(row.test_accuracy is not None and row.test_accuracy > 0.9 for row in report.rows)


def test_a_service_gets_the_same_answers_on_the_device(exported: RunFolder) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (9, 40, 50, 3), dtype=np.uint8))
    on_cpu = toolkit.load(exported.bundle, device="cpu").predict(images)
    on_cuda = toolkit.load(exported.bundle, device="cuda").predict(images)
    for ours, theirs in zip(on_cpu, on_cuda, strict=True):
        assert theirs.probability == pytest.approx(ours.probability, abs=5e-3)


class StopsInTheSecondStage(Silent):
    """Interrupts the run once the first epoch of the second stage is saved."""

    def line(self, text: str) -> None:
        if text.startswith("stage 2 epoch 1"):
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_goes_on_there(tmp_path: Path) -> None:
    recipe = short_recipe()
    with pytest.raises(KeyboardInterrupt):
        finetune_run(recipe, name="run", root=tmp_path, reporter=StopsInTheSecondStage())
    run = finetune_run(recipe, name="run", root=tmp_path, resume=True)
    epochs = [line.split(",")[:2] for line in run.history_file.read_text("utf-8").splitlines()[1:]]
    assert epochs == [["1", "1"], ["1", "2"], ["1", "3"], ["2", "1"], ["2", "2"], ["2", "3"]]
    assert run.evaluation().top1 > 0.9
