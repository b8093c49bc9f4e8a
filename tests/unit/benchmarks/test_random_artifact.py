from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import toolkit
from benchmarks.random_artifact import LABELS, write_bundle, write_onnx
from toolkit.bundle.content import Content
from toolkit.formats.onnx import OnnxSession


@pytest.mark.slow
def test_the_file_takes_images_and_gives_logits(tmp_path: Path) -> None:
    write_onnx("torchvision:squeezenet1_1", 32, tmp_path / "model.onnx")
    session = OnnxSession(Content.of(tmp_path / "model.onnx"), "cpu", 1)
    assert session.run(np.zeros((3, 32, 32, 3), np.uint8))["logits"].shape == (3, 10)


@pytest.mark.slow
def test_the_bundle_predicts(tmp_path: Path) -> None:
    model = write_bundle("torchvision:squeezenet1_1", 32, tmp_path / "bundle")
    assert model.is_file()
    with toolkit.load(tmp_path / "bundle", threads=1) as predictor:
        (prediction,) = predictor.predict(np.zeros((40, 30, 3), np.uint8))
        assert prediction.label in LABELS
        assert predictor.selftest().passed
        assert not predictor.manifest.preprocessing.reduced
