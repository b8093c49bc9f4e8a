"""Bundles with an artifact of another family than ONNX, made in a fraction of a second."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bundles import take_tensors
from tests.conftest import LABELS, SIZE, WEIGHTS, colour_outputs
from toolkit.bundle import ArtifactRecord, read_manifest
from toolkit.bundle.manifest import FileRecord
from toolkit.bundle.writer import file_record, write_golden, write_manifest
from toolkit.formats.torchscript import TorchScriptFormat

Change = Callable[[Path], Path]


class Colours(torch.nn.Module):
    """What ``colour_model`` computes."""

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = inputs.float().mean(dim=(1, 2)) @ torch.from_numpy(WEIGHTS)
        return logits, logits.softmax(dim=1)


def add_artifact(bundle: Path, name: str, file: str, *further: str, **fields: object) -> Path:
    """Describe files that were written into a bundle as an artifact of it, exported by this user."""
    manifest = read_manifest(bundle)
    others = {name: FileRecord.model_validate(file_record(bundle / name).model_dump()) for name in further}
    values = {"precision": "float32", "opset": None, "ir_version": None, "producer": "test", "further_files": others}
    record = ArtifactRecord.model_validate(
        {"format": name, "file": file, **file_record(bundle / file).model_dump(), **values, **fields}
    )
    write_manifest(bundle, manifest.model_copy(update={"artifacts": (*manifest.artifacts, record)}), own=True)
    return bundle


def add_torchscript(bundle: Path) -> Path:
    sample = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    TorchScriptFormat().save(Colours().eval(), sample, bundle / "model.torchscript.pt", {})
    return add_artifact(bundle, "torchscript", "model.torchscript.pt")


def add_openvino(bundle: Path) -> Path:
    openvino = pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    model = openvino.convert_model(bundle / "model.onnx")
    openvino.save_model(model, bundle / "model.openvino.xml", compress_to_fp16=False)
    return add_artifact(bundle, "openvino", "model.openvino.xml", "model.openvino.bin")


@pytest.fixture
def torchscript_bundle(colour_bundle: Path) -> Path:
    return add_torchscript(colour_bundle)


@pytest.fixture
def openvino_bundle(colour_bundle: Path) -> Path:
    return add_openvino(colour_bundle)


@pytest.fixture
def relabelled(colour_bundle: Path) -> Callable[[tuple[str, ...]], Path]:
    """Return what gives the bundle, whose network tells three classes apart, these three labels."""

    def change(labels: tuple[str, ...]) -> Path:
        manifest = read_manifest(colour_bundle)
        images = np.stack(
            [
                np.frombuffer((colour_bundle / f"golden/{index:03d}.bin").read_bytes(), np.uint8)
                for index in range(len(LABELS))
            ]
        ).reshape(len(LABELS), SIZE, SIZE, 3)
        shutil.rmtree(colour_bundle / "golden")
        files = write_golden(colour_bundle, images, colour_outputs(images), ["a", "b", "c"], [None, None, None], labels)
        kept = {name: record for name, record in manifest.files.items() if not name.startswith("golden/")}
        write_manifest(
            colour_bundle, manifest.model_copy(update={"labels": labels, "files": {**kept, **files}}), own=True
        )
        return colour_bundle

    return change


@pytest.fixture
def tensor_input() -> Change:
    """Return what makes of the colour bundle one that was exported with ``--input tensor``."""
    return take_tensors
