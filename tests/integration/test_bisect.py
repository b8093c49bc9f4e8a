"""Bisection names a fault that was planted in a real export, and the PyTorch module it sits in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from toolkit.backbones import create_backbone
from toolkit.backbones.deployable import Deployable, input_contract
from toolkit.bundle.manifest import InputContract
from toolkit.compare.tolerances import TOLERANCES
from toolkit.formats.base import ExportRequest
from toolkit.formats.onnx import OnnxFormat
from toolkit.results import Bisection
from toolkit.verify.bisect import bisect_artifact
from toolkit.verify.inputs import Inputs, make_inputs
from toolkit.verify.reference_onnx import fresh_export

pytestmark = pytest.mark.slow

SIZE = 64
MODELS = ("resnet18", "timm:tf_efficientnet_lite0")


class Exported:
    """A network with random weights and statistics, and its ONNX file."""

    def __init__(self, name: str, folder: Path) -> None:
        backbone = create_backbone(name, weights="none", classes=5, image_size=SIZE, seed=0)
        generator = torch.Generator().manual_seed(1)
        for key, buffer in backbone.model.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.1, generator=generator)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
        self.deployable = Deployable(backbone.model, backbone.normalization)
        self.contract: InputContract = input_contract(backbone.normalization, SIZE, SIZE)
        images = np.random.default_rng(2).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
        self.inputs: Inputs = make_inputs(tuple("abcdef"), images, seed=3)
        self.path = folder / "model.onnx"
        sample = torch.from_numpy(self.contract.encode(images[:2]))
        OnnxFormat().export(self.deployable, sample, self.path, ExportRequest("images", ("logits", "probabilities"), {}), None)

    def bisected(self, change: Callable[[onnx.ModelProto], None], target: Path) -> Bisection:
        """Bisect a changed copy of the file against a fresh export."""
        model = onnx.load(self.path)
        change(model)
        onnx.save(model, target)
        with fresh_export(self.deployable, self.contract, None) as reference:
            return bisect_artifact(target, reference, self.contract, self.inputs, TOLERANCES["float32"])


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(request.param, tmp_path_factory.mktemp("exported"))


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def change_tensor(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], None]) -> None:
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def flip_a_sign(values: np.ndarray) -> None:
    place = np.unravel_index(int(np.argsort(np.abs(values).ravel())[values.size // 2]), values.shape)
    values[place] *= -1


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_one_weight_with_the_wrong_sign(exported: Exported, tmp_path: Path, share: float) -> None:
    planted = convolutions(onnx.load(exported.path))
    node = planted[int(share * (len(planted) - 1))]
    found = exported.bisected(lambda model: change_tensor(model, node.input[1], flip_a_sign), tmp_path / "bad.onnx")
    assert found.first is not None
    assert found.first.node == node.name
    assert found.first.module.startswith(node.input[1].removesuffix(".weight"))
    assert all(before.error <= found.allowed for before in found.path[: found.path.index(found.first)])
    assert found.lacking == ()
    assert found.samples == 6


def test_one_bias_that_a_batch_norm_was_folded_into(exported: Exported, tmp_path: Path) -> None:
    node = convolutions(onnx.load(exported.path))[3]

    def shift(values: np.ndarray) -> None:
        values[0] += np.float32(0.01)

    found = exported.bisected(lambda model: change_tensor(model, node.input[2], shift), tmp_path / "bad.onnx")
    assert found.first is not None
    assert found.first.node == node.name
    assert "BatchNorm" in found.first.module


def test_a_good_export_has_no_first_node(exported: Exported, tmp_path: Path) -> None:
    found = exported.bisected(lambda model: None, tmp_path / "good.onnx")
    assert found.first is None
    assert found.compared > 30
