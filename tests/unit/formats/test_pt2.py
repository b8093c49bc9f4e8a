from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.bundle.content import Content
from toolkit.errors import BundleError, ExportError
from toolkit.formats.base import ExportRequest
from toolkit.formats.pt2 import METADATA_FILE, Pt2Format, capture

METADATA = {"toolkit.labels": '["ä", "猫"]'}


class Tiny(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, x.softmax(dim=1)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    request = ExportRequest("images", ("logits", "probabilities"), METADATA)
    Pt2Format().export(Tiny().eval(), torch.full((2, 3), 0.5), path, request, None)
    return path


def test_metadata_stand_inside_the_archive_as_text(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith(f"/extra/{METADATA_FILE}"))
        assert json.loads(archive.read(name)) == METADATA
    assert Pt2Format().facts(file).metadata == METADATA


def test_an_archive_without_metadata_has_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/other", "x")
    assert Pt2Format().facts(tmp_path / "model.pt2").metadata == {}


def test_the_example_of_a_call_is_not_in_the_file(file: Path) -> None:
    assert torch.export.load(str(file)).example_inputs is None


def test_any_batch_runs_without_the_code_of_the_network(file: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(Pt2Format().open(Content.of(file), "cpu", 1).run(inputs)["logits"], inputs * 2)


def test_a_network_whose_batch_is_fixed_cannot_be_captured() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.reshape(2, 3), x

    with pytest.raises(ExportError, match=r"torch\.export cannot export this network"):
        capture(Fixed().eval(), torch.zeros(2, 3))


def test_a_file_that_is_none_is_one_sentence_and_no_traceback_on_the_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.pt2").write_bytes(b"no archive")
    before = logging.getLogger("torch.export").level
    with pytest.raises(BundleError, match=r"torch\.export\.load refuses .*model\.pt2"):
        Pt2Format().open(Content.of(tmp_path / "model.pt2"), "cpu", 1)
    assert logging.getLogger("torch.export").level == before
    assert [record for record in caplog.records if record.levelno < logging.ERROR] == []
