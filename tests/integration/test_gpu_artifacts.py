"""A run that was trained on a CUDA device: its artifacts against PyTorch there, in the benchmark, and in a service."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import toolkit
from toolkit.bench import BenchOptions, bench_run
from toolkit.export import export_run
from toolkit.recipe import load_recipe
from toolkit.run_folder import RunFolder
from toolkit.training.stage import finetune_run
from toolkit.verify.run import verify_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was trained on CUDA and exported to every format that can run there."""
    formats = ("onnx", "torchscript")
    recipe = load_recipe("digits").override({"train.device": "cuda", "stage2.epochs": 3, "export.formats": formats})
    run = finetune_run(recipe, name="run", root=tmp_path_factory.mktemp("runs"))
    export_run(run)
    return run


def test_every_artifact_agrees_on_the_device(exported: RunFolder) -> None:
    report = verify_run(exported, device="cuda", images=64)
    assert {artifact.artifact: artifact.failures for artifact in report.artifacts if not artifact.passed} == {}
    assert {artifact.device for artifact in report.artifacts} == {"cuda"}
    assert report.passed


def test_every_row_of_the_benchmark_ran_on_the_device(exported: RunFolder) -> None:
    verify_run(exported, device="cuda", images=32)
    options = BenchOptions("cuda", batch_sizes=(1, 32), rounds=2, min_seconds=0.02, accuracy_images=64)
    report = bench_run(exported, options)
    assert {row.name: row.missing for row in report.rows if row.missing} == {}
    assert {row.device for row in report.rows} == {"cuda"}
    assert all(timing.throughput.median > 0 for row in report.rows for timing in row.timings)
    assert all(row.test_accuracy is not None and row.test_accuracy > 0.9 for row in report.rows)
    assert {row.tf32 for row in report.rows} == {False}
    assert not [row.provider for row in report.rows if row.provider is None or "cpu" in row.provider.lower()]
    assert [peak.device for peak in report.peaks] == ["cuda"]
    for row in report.rows:
        # PyTorch's rows are timed by events too, which lie inside what the clock sees.
        events = [timing.device_p50_seconds for timing in row.timings]
        assert all(value is not None for value in events) == (row.engine or "").startswith("torch")


def test_a_service_gets_the_same_answers_on_the_device(exported: RunFolder) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (9, 40, 50, 3), dtype=np.uint8))
    on_cpu = toolkit.load(exported.bundle, device="cpu").predict(images)
    on_cuda = toolkit.load(exported.bundle, device="cuda").predict(images)
    for ours, theirs in zip(on_cpu, on_cuda, strict=True):
        assert theirs.probability == pytest.approx(ours.probability, abs=5e-3)
