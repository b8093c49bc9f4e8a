"""What a worker opens, with the real engines and a small network."""

import sys

import numpy as np
import pytest

from toolkit.bench import sessions
from toolkit.bundle.manifest import ArtifactRecord
from toolkit.bundle.writer import file_record
from toolkit.errors import BundleError, DeviceError, IntegrityError, MissingDependencyError
from toolkit.formats.registry import get_format

BACKBONE = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture
def arguments(tmp_path, contract):
    from toolkit.backbones import build_architecture, save_weights

    weights = tmp_path / "model.safetensors"
    save_weights(build_architecture(BACKBONE, 3, 32), weights)
    return {
        "backbone": BACKBONE,
        "classes": 3,
        "image_size": 32,
        "weights": str(weights),
        "normalization": contract.normalization.model_dump(mode="json"),
        "takes_images": True,
        "flip_test": False,
        "device": "cpu",
        "threads": 1,
        "channels_last": False,
    }


def test_pytorch_computes_the_same_in_both_memory_layouts(arguments):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    plain = sessions.pytorch(arguments)()
    last = sessions.pytorch({**arguments, "channels_last": True})()
    assert (plain.device, plain.threads) == ("cpu", 1)
    assert plain.run(images)["logits"].shape == (2, 3)
    np.testing.assert_allclose(last.run(images)["logits"], plain.run(images)["logits"], atol=1e-4)


def test_the_library_of_the_backbone_is_imported_before_loading(arguments, monkeypatch):
    monkeypatch.delitem(sys.modules, "toolkit.backbones.source_torchvision", raising=False)
    sessions.pytorch(arguments)
    assert "toolkit.backbones.source_torchvision" in sys.modules


def described(path, name, device):
    """Return what the worker of an artifact is told; a file that is not there is empty."""
    path.touch()
    record = file_record(path)
    artifact = ArtifactRecord(
        format=name,
        family=name,
        precision="float32",
        file=path.name,
        opset=None,
        ir_version=None,
        producer="test",
        **record.model_dump(),
    )
    return {
        "bundle": str(path.parent),
        "artifact": artifact.model_dump(mode="json"),
        "files": {path.name: record.model_dump(mode="json")},
        "device": device,
        "threads": 1,
    }


@pytest.mark.parametrize("factory", ["pytorch", "artifact"])
def test_cuda_without_a_gpu_is_an_error(arguments, tmp_path, factory):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    given = (
        {**arguments, "device": "cuda"}
        if factory == "pytorch"
        else described(tmp_path / "model.pt", "torchscript", "cuda")
    )
    with pytest.raises(DeviceError, match="no CUDA device"):
        getattr(sessions, factory)(given)()


def test_an_artifact_is_opened_by_its_format(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    opener = sessions.artifact(described(path, "onnx", "cpu"))
    with pytest.raises(BundleError, match=r"model\.onnx"):
        opener()


def test_a_file_that_was_swapped_after_the_bundle_was_opened_is_not_measured(tmp_path):
    opener = sessions.artifact(described(tmp_path / "model.onnx", "onnx", "cpu"))
    (tmp_path / "model.onnx").write_bytes(b"in its place")
    with pytest.raises(IntegrityError, match=r"model\.onnx has 12 bytes, its manifest says 0"):
        opener()


def test_an_engine_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        type(get_format("onnx")), "unavailable", lambda self: "onnxruntime is not installed: pip install it"
    )
    with pytest.raises(MissingDependencyError, match="not installed"):
        sessions.artifact(described(tmp_path / "model.onnx", "onnx", "cpu"))


def test_pytorch_averages_mirror_images_where_the_run_does(arguments):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    plain, both = (sessions.pytorch({**arguments, "flip_test": each})() for each in (False, True))
    logits = [plain.run(each)["logits"] for each in (images, np.ascontiguousarray(images[:, :, ::-1]))]
    np.testing.assert_allclose(both.run(images)["logits"], sum(logits) / 2, atol=1e-5)
