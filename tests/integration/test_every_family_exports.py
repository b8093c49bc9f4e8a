"""One model of each family, with a new head, goes through both exporters and the parity gate.

Surgery must leave what they can trace.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from daily import daily
from families import FAMILIES, create_with_statistics

from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import ArtifactRecord
from toolkit.compare.tolerances import TOLERANCES
from toolkit.formats.base import ExportRequest
from toolkit.formats.registry import get_format
from toolkit.verify.candidate import Candidate
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import Judgement, golden_expected, run_reference
from toolkit.verify.gate import verify_artifact
from toolkit.verify.inputs import BATCH_SIZES, make_inputs

pytestmark = pytest.mark.slow

LABELS = ("ant", "bee", "cow")


@pytest.fixture(scope="module", params=daily(FAMILIES, "resnet18"))
def judged(request: pytest.FixtureRequest) -> tuple[Deployable, Judgement]:
    """A classifier with random weights and statistics, and what PyTorch says of some inputs."""
    backbone, size = create_with_statistics(request.param, len(LABELS)), FAMILIES[request.param]
    deployable = Deployable(backbone.model, backbone.normalization)
    contract = input_contract(backbone.normalization, size, size)
    images = np.random.default_rng(2).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    inputs = make_inputs(tuple(f"noise/{index}" for index in range(len(images))), images, seed=3)
    reference = run_reference(TorchSession(deployable, "cpu", 1), inputs, contract)
    outputs = reference.rows(tuple(range(4)))
    golden = golden_expected(
        {f"golden/{index}": name for index, name in enumerate(inputs.names[:4])},
        images[:4],
        [tuple(row) for row in outputs["logits"].tolist()],
        [tuple(row) for row in outputs["probabilities"].tolist()],
    )
    exact = measure_exact(deployable, inputs, reference, contract, {"float32"}, 1)
    return deployable, Judgement(contract, LABELS, inputs, reference, golden, exact)


@pytest.mark.parametrize("format_name", ["onnx", "torchscript"])
def test_it_exports_and_verifies(judged: tuple[Deployable, Judgement], format_name: str, tmp_path: Path) -> None:
    deployable, judgement = judged
    chosen = get_format(format_name)
    if (reason := chosen.unavailable()) is not None:
        pytest.skip(reason)
    path = tmp_path / f"model{chosen.suffix}"
    sample = torch.from_numpy(judgement.contract.encode(judgement.inputs.images[:2]))
    chosen.export(
        deployable, sample, path, ExportRequest(judgement.contract.name, ("logits", "probabilities"), {}), None
    )
    if format_name == "onnx":
        # A chain of indices that changes nothing: what strides that are not contiguous left behind.
        assert "Range" not in {node.op_type for node in onnx.load(path).graph.node}
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
    opened = functools.partial(chosen.open, Content.of(path), "cpu")
    found = verify_artifact(Candidate(record, opened, TOLERANCES["float32"], threads=2), judgement)
    assert found.failures == ()
    assert found.batch_sizes == BATCH_SIZES
    assert found.rounding is not None
    assert found.rounding.ratio < 5, "half of what is allowed"
