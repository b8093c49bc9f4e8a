from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from toolkit.backbones.deployable import Deployable
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Normalization
from toolkit.errors import BundleError
from toolkit.formats import torchscript
from toolkit.formats.base import ExportRequest
from toolkit.formats.torchscript import METADATA_FILE, TorchScriptFormat

METADATA = {"toolkit.labels": '["ä", "猫"]'}


class Tiny(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.float() * 2, x.float().softmax(dim=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.torchscript.pt"
    request = ExportRequest("images", ("logits", "probabilities"), METADATA)
    TorchScriptFormat().export(Tiny().eval(), torch.zeros(2, 3), path, request, None)
    return path


def test_metadata_stand_inside_the_archive_as_text(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith(f"extra/{METADATA_FILE}"))
        assert json.loads(archive.read(name)) == METADATA


def test_a_file_without_metadata_has_none(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with torchscript._quiet():
        torch.jit.save(torch.jit.trace(Tiny().eval(), torch.zeros(2, 3)), str(path))
    assert TorchScriptFormat().facts(path).metadata == {}


def test_it_is_not_offered_where_torch_jit_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TorchScriptFormat().unavailable() is None
    monkeypatch.setattr(torchscript, "sys", SimpleNamespace(version_info=(3, 14)))
    assert "does not support Python 3.14" in str(TorchScriptFormat().unavailable())


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"no archive")
    with pytest.raises(BundleError, match=r"torch\.jit\.load refuses .*model\.pt"):
        TorchScriptFormat().open(Content.of(tmp_path / "model.pt"), "cpu", 1)


def test_no_convolution_of_the_file_may_compute_in_tf32(tmp_path: Path) -> None:
    """A trace keeps what PyTorch allowed while it was made, whatever is allowed where the file is opened."""
    path, before = tmp_path / "model.torchscript.pt", torch.backends.cudnn.allow_tf32
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    normalization = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    TorchScriptFormat().save(
        Deployable(network.eval(), normalization), torch.zeros(2, 8, 8, 3, dtype=torch.uint8), path, {}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch.jit.load(str(path)).graph
    allowed = [list(node.inputs())[-1].toIValue() for node in graph.nodes() if node.kind() == "aten::_convolution"]
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32 == before
