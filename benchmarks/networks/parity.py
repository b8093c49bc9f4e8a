"""An artifact of a network, judged as ``toolkit verify`` judges it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from toolkit.backbones import Backbone
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import ArtifactRecord
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import ToolkitError
from toolkit.formats.base import ExportRequest
from toolkit.formats.registry import get_format
from toolkit.verify.candidate import Candidate
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import Judgement, golden_expected, run_reference
from toolkit.verify.gate import verify_artifact
from toolkit.verify.inputs import make_inputs

LABELS = ("ant", "bee", "cow")
"""Classes of the new head."""


def parity(backbone: Backbone, format_name: str) -> str:
    """Export in a format and judge the artifact; return nothing where it is right."""
    backbone.model.eval().requires_grad_(False)
    deployable = Deployable(backbone.model, backbone.normalization)
    judgement, images = expectation(backbone, deployable)
    chosen = get_format(format_name)
    with tempfile.TemporaryDirectory(prefix="families-") as folder:
        path = Path(folder) / f"model{chosen.suffix}"
        sample = torch.from_numpy(judgement.contract.encode(images[:2]))
        request = ExportRequest(judgement.contract.name, ("logits", "probabilities"), {})
        try:
            chosen.export(deployable, sample, path, request, None)
            record = ArtifactRecord(
                format=format_name,
                precision=chosen.precision,
                file=path.name,
                sha256="0" * 64,
                size_bytes=path.stat().st_size,
                opset=None,
                ir_version=None,
                producer="families",
            )
            opened = functools.partial(chosen.open, Content.of(path), "cpu")
            found = verify_artifact(Candidate(record, opened, TOLERANCES["float32"], threads=1), judgement)
        except ToolkitError as error:
            return str(error)
        return "; ".join(found.failures)


def expectation(backbone: Backbone, deployable: Deployable) -> tuple[Judgement, npt.NDArray[np.uint8]]:
    """Return what PyTorch says of some noise, and the noise."""
    size = backbone.image_size
    contract = input_contract(backbone.normalization, size, size)
    images = np.random.default_rng(2).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    inputs = make_inputs(tuple(f"noise/{index}" for index in range(len(images))), images, seed=3)
    reference = run_reference(TorchSession(deployable, "cpu", 1), inputs, contract)
    outputs = reference.rows(tuple(range(len(images))))
    golden = golden_expected(
        {f"golden/{index}": name for index, name in enumerate(inputs.names[: len(images)])},
        images,
        [tuple(row) for row in outputs["logits"].tolist()],
        [tuple(row) for row in outputs["probabilities"].tolist()],
    )
    exact = measure_exact(deployable, inputs, reference, contract, {"float32"}, 1)
    return Judgement(contract, LABELS, inputs, reference, golden, exact), images
