"""One model of each family, with a new head, goes through both exporters and the parity gate: surgery must leave what they can trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.backbones import create_backbone
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.manifest import ArtifactRecord
from toolkit.compare.tolerances import TOLERANCES
from toolkit.formats.base import ExportRequest
from toolkit.formats.registry import get_format
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import Judgement, golden_expected, run_reference
from toolkit.verify.gate import verify_artifact
from toolkit.verify.inputs import BATCH_SIZES, make_inputs

pytestmark = pytest.mark.slow

LABELS = ("ant", "bee", "cow")
FAMILIES = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "inception_v3": 80,
    "googlenet": 32,
    "densenet121": 32,
    "squeezenet1_1": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "shufflenet_v2_x0_5": 32,
    "mnasnet0_5": 32,
    "efficientnet_b0": 32,
    "regnet_y_400mf": 32,
    "convnext_tiny": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "vit_b_16": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "maxvit_t": 224,
    "timm:tf_efficientnet_lite0": 32,
}
"""A model of each family, and the smallest side in pixels that shows all of its graph."""


@pytest.fixture(scope="module", params=FAMILIES)
def judged(request: pytest.FixtureRequest) -> tuple[Deployable, Judgement]:
    """A classifier with random weights and statistics, and what PyTorch says of some inputs."""
    size = FAMILIES[request.param]
    backbone = create_backbone(request.param, weights="none", classes=len(LABELS), image_size=size, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in backbone.model.named_buffers():
        # Statistics of 0 and 1 would hide a BatchNorm that was dropped or folded wrongly.
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
    deployable = Deployable(backbone.model, backbone.normalization)
    contract = input_contract(backbone.normalization, size, size)
    images = np.random.default_rng(2).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    inputs = make_inputs(tuple(f"noise/{index}" for index in range(len(images))), images, seed=3)
    reference = run_reference(TorchSession(deployable, "cpu", 2), inputs, contract)
    outputs = reference.rows(tuple(range(4)))
    golden = golden_expected(
        {f"golden/{index}": name for index, name in enumerate(inputs.names[:4])},
        images[:4],
        [tuple(row) for row in outputs["logits"].tolist()],
        [tuple(row) for row in outputs["probabilities"].tolist()],
    )
    exact = measure_exact(deployable, inputs, reference, contract, {"float32"}, 2)
    return deployable, Judgement(contract, LABELS, inputs, reference, golden, exact)


@pytest.mark.parametrize("format_name", ["onnx", "torchscript"])
def test_it_exports_and_verifies(judged: tuple[Deployable, Judgement], format_name: str, tmp_path: Path) -> None:
    deployable, judgement = judged
    chosen = get_format(format_name)
    if (reason := chosen.unavailable()) is not None:
        pytest.skip(reason)
    path = tmp_path / f"model{chosen.suffix}"
    sample = torch.from_numpy(judgement.contract.encode(judgement.inputs.images[:2]))
    chosen.export(deployable, sample, path, ExportRequest(judgement.contract.name, ("logits", "probabilities"), {}), None)
    record = ArtifactRecord(
        format=format_name,
        precision=chosen.precision,
        file=path.name,
        sha256="0" * 64,
        size_bytes=path.stat().st_size,
        opset=None,
        ir_version=None,
        producer="test",
    )
    found = verify_artifact(lambda threads: chosen.open(path, "cpu", threads), record, judgement, TOLERANCES["float32"], threads=2)
    assert found.failures == ()
    assert found.batch_sizes == BATCH_SIZES
    assert found.rounding is not None
    assert found.rounding.ratio < 5, "half of what is allowed"
