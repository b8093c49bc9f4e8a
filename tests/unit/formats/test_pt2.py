from __future__ import annotations

import json
import logging
import pickletools
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


class Odd(nn.Module):
    """Weights that lie in memory in unusual ways: shared, a buffer, a scalar, integers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.first = nn.Linear(4, 2)
        self.second = nn.Linear(4, 2)
        self.second.weight = self.first.weight
        self.register_buffer("part", torch.rand(4))
        self.register_buffer("scalar", torch.tensor(0.5))
        self.register_buffer("steps", torch.arange(4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.convolution(x).mean(dim=(2, 3)) + self.part * self.scalar + self.steps
        logits = self.first(x) + self.second(x)
        return logits, logits.softmax(dim=1)


def test_no_member_of_the_archive_is_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    Pt2Format().save(Odd().eval(), torch.rand(2, 3, 8, 8), path, {"toolkit.run": "odd"})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (config,) = (json.loads(content) for name, content in members.items() if name.endswith("weights_config.json"))
    assert len(config["config"]) == 9
    assert not any(entry["use_pickle"] for entry in config["config"].values())
    for name, content in members.items():
        assert not {"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "BUILD"} & set(opcodes(content)), name
        assert not content.startswith(b"PK"), name
        assert "sample_inputs" not in name or content == b""
    inputs = np.random.default_rng(0).random((3, 3, 8, 8), np.float32)
    assert Pt2Format().open(Content.of(path), "cpu", 1).run(inputs)["logits"].shape == (3, 2)


def opcodes(content: bytes) -> list[str]:
    """Return the names of what a pickle does; of other bytes, as far as they read like one."""
    names = []
    try:
        for opcode, _, _ in pickletools.genops(content):
            names.append(opcode.name)
    except Exception:  # whatever is wrong with bytes that are no pickle
        return []
    return names


@pytest.mark.parametrize("where", ["sample inputs", "weight"])
def test_a_pickle_that_the_exporter_writes_is_not_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def save(program: object, path: str, extra_files: object) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            config = {"config": {"head.weight": {"use_pickle": where == "weight"}}}
            archive.writestr("model/data/weights/model_weights_config.json", json.dumps(config))
            archive.writestr("model/data/sample_inputs/model.pt", b"\x80\x02N." if where != "weight" else b"")

    monkeypatch.setattr(torch.export, "save", save)
    with pytest.raises(ExportError, match=r"has written a pickle \((head\.weight|model/data/sample_inputs/.*)\)"):
        Pt2Format().save(Odd().eval(), torch.rand(2, 3, 8, 8), tmp_path / "model.pt2", {})
