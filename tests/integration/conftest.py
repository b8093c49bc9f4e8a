"""What several integration tests share: a finished run, and two real networks with random weights, exported once."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import commands
import numpy as np
import onnx
import pytest
import torch
from daily import daily
from once import made_once
from onnx import numpy_helper

from toolkit.backbones import create_backbone
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import ArtifactRecord, InputContract
from toolkit.compare.tolerances import TOLERANCES
from toolkit.formats.base import ExportRequest
from toolkit.formats.onnx import OnnxFormat
from toolkit.results import ArtifactParity, Bisection
from toolkit.verify.bisect import bisect_artifact
from toolkit.verify.candidate import Candidate
from toolkit.verify.exact import measure_exact
from toolkit.verify.expected import Judgement, run_reference
from toolkit.verify.gate import verify_artifact
from toolkit.verify.inputs import Inputs, make_inputs
from toolkit.verify.reference_onnx import fresh_export

SIZE = 64
MODELS = ("resnet18", "timm:tf_efficientnet_lite0")

SMALL = (
    *("--recipe", "digits", "--image-size", "32", "--train-limit", "300", "--test-limit", "100"),
    *("--stage1-epochs", "1", "--stage2-epochs", "2", "--threads", "1"),
)
"""Flags of a fine-tuning of some seconds that learns enough to be right more often than wrong."""


@pytest.fixture(scope="session", autouse=True)
def warm_process() -> Iterator[None]:
    """End the process that commands are forked from when the tests end."""
    yield
    commands.close()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished, exported run called ``small``, made by real commands; to read only."""

    def make(folder: Path) -> None:
        for arguments in (("finetune", *SMALL, "--run", "small"), ("export",)):
            done = commands.run_python(folder, "-m", "toolkit.cli.main", *arguments)
            assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture
def job(finished: Path, tmp_path: Path) -> Path:
    """A copy of ``finished`` that a test may damage."""
    shutil.copytree(finished, tmp_path / "job", symlinks=True)
    return tmp_path / "job"


def _settle(deployable: Deployable, encoded: np.ndarray) -> None:
    """Give every BatchNorm the statistics of these inputs.

    With any others most channels are zero everywhere, and hide what is planted in them.
    """
    for part in deployable.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    deployable.train()
    with torch.no_grad():
        deployable(torch.from_numpy(encoded))
    deployable.eval()


class Exported:
    """A network with random weights and the statistics of its inputs, and its ONNX file."""

    def __init__(self, name: str, folder: Path) -> None:
        backbone = create_backbone(name, weights="none", classes=5, image_size=SIZE, seed=0)
        self.deployable = Deployable(backbone.model, backbone.normalization)
        self.contract: InputContract = input_contract(backbone.normalization, SIZE, SIZE)
        images = np.random.default_rng(2).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
        self.inputs: Inputs = make_inputs(tuple("abcdef"), images, seed=3)
        _settle(self.deployable, self.contract.encode(self.inputs.images))
        self.path = folder / "model.onnx"
        sample = torch.from_numpy(self.contract.encode(images[:2]))
        OnnxFormat().export(
            self.deployable, sample, self.path, ExportRequest("images", ("logits", "probabilities"), {}), None
        )

    def changed(self, change: Callable[[onnx.ModelProto], None], target: Path) -> Path:
        """Write a changed copy of the file."""
        model = onnx.load(self.path)
        change(model)
        onnx.save(model, target)
        return target

    @functools.cached_property
    def judgement(self) -> Judgement:
        """What PyTorch says, in float32 and in float64."""
        reference = run_reference(TorchSession(self.deployable, "cpu", 1), self.inputs, self.contract)
        exact = measure_exact(self.deployable, self.inputs, reference, self.contract, {"float32"}, 1)
        return Judgement(self.contract, tuple("abcde"), self.inputs, reference, None, exact)

    def verified(self, path: Path) -> ArtifactParity:
        """Put a file through the gate, with PyTorch as the reference."""
        record = ArtifactRecord(
            format="onnx",
            precision="float32",
            file=path.name,
            sha256="0" * 64,
            size_bytes=1,
            opset=None,
            ir_version=None,
            producer="test",
        )
        opened = functools.partial(OnnxFormat().open, Content.of(path), "cpu")
        return verify_artifact(Candidate(record, opened, TOLERANCES["float32"]), self.judgement)

    def bisected(self, change: Callable[[onnx.ModelProto], None], target: Path) -> Bisection:
        """Bisect a changed copy of the file against a fresh export."""
        self.changed(change, target)
        with fresh_export(self.deployable, self.contract, None) as reference:
            return bisect_artifact(target, reference, self.contract, self.inputs, TOLERANCES["float32"])


@pytest.fixture(scope="session", params=daily(MODELS, "resnet18"))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(request.param, tmp_path_factory.mktemp("exported"))


def change_tensor(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], None]) -> None:
    """Change one weight tensor of a model in place."""
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


@pytest.fixture
def change_weights() -> Callable[[onnx.ModelProto, str, Callable[[np.ndarray], None]], None]:
    """Return what changes one weight tensor of a model in place."""
    return change_tensor
