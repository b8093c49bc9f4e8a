from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable
from toolkit.bundle.manifest import Normalization
from toolkit.errors import ExportError
from toolkit.formats.base import ExportRequest
from toolkit.formats.onnx import OnnxFormat
from toolkit.formats.profiles import PROFILES, resolve

SAMPLE = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)


def deployable() -> Deployable:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Deployable(model, Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


def test_what_is_given_goes_before_the_profile() -> None:
    assert resolve(None, None, None) == (None, None)
    assert resolve("wide", None, None) == (18, 8)
    assert resolve("newest", 21, None) == (21, PROFILES["newest"].ir_version)
    assert resolve("wide", None, 10) == (18, 10)
    with pytest.raises(ExportError, match="no profile 'old': give one of wide, newest"):
        resolve("old", None, None)


@pytest.mark.parametrize("name", PROFILES)
def test_the_saved_file_is_of_the_profile(tmp_path: Path, name: str) -> None:
    opset, ir_version = resolve(name, None, None)
    request = ExportRequest("images", ("logits", "probabilities"), {"toolkit.run": "test"}, opset, ir_version)
    OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", request, None)
    model = onnx.load_model(tmp_path / "model.onnx")
    assert model.ir_version == PROFILES[name].ir_version
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", PROFILES[name].opset)]
    # Nodes carry metadata since IR version 10 only.
    assert any(node.metadata_props for node in model.graph.node) is (model.ir_version >= 10)


def test_an_ir_version_that_is_older_than_the_opset_is_an_error(tmp_path: Path) -> None:
    request = ExportRequest("images", ("logits", "probabilities"), {}, opset=21, ir_version=8)
    with pytest.raises(ExportError, match="opset 21 needs IR version 10 or later, and 8 was asked for"):
        OnnxFormat().export(deployable(), SAMPLE, tmp_path / "model.onnx", request, None)


def test_an_ir_version_that_is_not_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.formats.onnx._set_ir_version", lambda model, version: None)
    with pytest.raises(ExportError, match="IR version 10 instead of 8"):
        OnnxFormat().export(
            deployable(),
            SAMPLE,
            tmp_path / "model.onnx",
            ExportRequest("images", ("logits", "probabilities"), {}, 18, 8),
            None,
        )
