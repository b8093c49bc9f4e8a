"""The whole way on a CUDA device: fine-tuning in each precision, and the artifacts against PyTorch there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from toolkit.export import export_run
from toolkit.finetune.stage import finetune_run
from toolkit.recipe import load_recipe
from toolkit.verify.run import verify_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_fine_tuning_learns_and_its_artifacts_agree(tmp_path: Path, precision: str) -> None:
    recipe = load_recipe("digits").override({"train.device": "cuda", "train.precision": precision, "stage2.epochs": 3})
    run = finetune_run(recipe, name="run", root=tmp_path)
    evaluation = run.evaluation()
    assert evaluation is not None
    assert evaluation.top1 > 0.9
    export_run(run)
    report = verify_run(run, device="cuda")
    assert report.passed
    assert {artifact.device for artifact in report.artifacts} == {"cuda"}
