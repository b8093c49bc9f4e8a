from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

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
        TorchScriptFormat().open(tmp_path / "model.pt", "cpu", 1)
