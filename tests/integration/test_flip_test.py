"""A run that averages each image with its mirror image: what it was tested as is what every artifact computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_training import small_run_recipe

from toolkit.data.of_run import load_test_split
from toolkit.export import export_run
from toolkit.progress import Silent
from toolkit.run_folder import FinishedRun
from toolkit.runtime import load
from toolkit.training.stage import finetune_run
from toolkit.verify.run import verify_run

pytestmark = pytest.mark.slow


def test_what_was_tested_is_what_every_artifact_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_STATE", str(tmp_path / "state"))
    recipe = small_run_recipe(model__flip_test=True, export__formats="torchscript,onnx")
    run = finetune_run(recipe, name="both", root=tmp_path)
    assert run.record().flip_test
    manifest = export_run(run)
    wanted = (
        "scores before softmax, the mean of those of the image and of its mirror image (each call computes 2 N images)"
    )
    assert {output.name: output.meaning for output in manifest.outputs}["logits"] == wanted
    for page in ("README.md", "MODEL_CARD.md"):
        assert wanted in (run.bundle / page).read_text()
    report = verify_run(run, threads=1)
    assert report.passed, [artifact.failures for artifact in report.artifacts]

    test = load_test_split(FinishedRun.of(run), Silent())
    images = test.load(range(len(test)), run.record().preprocessing)
    evaluation = run.evaluation()
    assert evaluation is not None
    with load(run.bundle, threads=1) as predictor:
        outputs = predictor.run(images)
        mirrored = predictor.run(np.ascontiguousarray(images[:, :, ::-1]))
    right = float((outputs["logits"].argmax(1) == test.targets).mean())
    assert right == evaluation.top1
    # An image and its mirror image are the same to it.
    np.testing.assert_allclose(mirrored["logits"], outputs["logits"], atol=1e-5)
