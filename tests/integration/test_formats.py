"""Every format from a real run.

Exported by the command, opened from the bundle, and compared with PyTorch on the run's own test images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import run
from once import made_once
from triton_model import TritonModel, serving

from toolkit.backbones.deployable import TorchSession
from toolkit.backbones.restore import load_deployable
from toolkit.bundle import ArtifactRecord, Bundle
from toolkit.data.of_run import load_test_split
from toolkit.deploy.triton import Wanted, deploy_triton
from toolkit.deploy.triton_check import check_folder
from toolkit.formats.opening import open_artifact
from toolkit.formats.registry import get_format
from toolkit.progress import Silent
from toolkit.run_folder import FinishedRun, RunFolder, find_run

pytestmark = pytest.mark.slow

SMALL = (
    *("--recipe", "digits", "--image-size", "32", "--train-limit", "600", "--test-limit", "100"),
    *("--stage1-epochs", "1", "--stage2-epochs", "3", "--threads", "1"),
)
ONNX_FAMILY = ("onnx", "onnx-int8", "onnx-fp16")
LOGITS = {"float32": 1e-3, "float16": 2e-2}
"""Largest difference of a logit as a share of the image's largest one."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run and its bundle with every format that can be used here; what the export printed is in ``export.txt``.

    Two points more may be lost than by default: with 60 validation images one is 1.7 points.
    """
    usable = [name for name in (*ONNX_FAMILY, "openvino", "pt2") if get_format(name).unavailable() is None]
    export = ("export", "--formats", ",".join(usable), "--profile", "wide", "--max-drop", "2.5", "--quiet")

    def make(folder: Path) -> None:
        for arguments in (("finetune", *SMALL, "--run", "small", "--quiet"), export):
            done = run(folder, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
        (folder / "export.txt").write_text(done.stdout, encoding="utf-8")

    return find_run("small", made_once(tmp_path_factory, "formats", make) / "artifacts")


@pytest.fixture(scope="module")
def exported(trained: RunFolder) -> tuple[Bundle, str]:
    """The bundle, and what the command printed."""
    return Bundle.open(trained.bundle), (trained.path.parents[1] / "export.txt").read_text(encoding="utf-8")


def artifact(bundle: Bundle, name: str) -> ArtifactRecord:
    if (reason := get_format(name).unavailable()) is not None:
        pytest.skip(reason)
    return bundle.artifact(name)


def outputs(run_folder: RunFolder, bundle: Bundle, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the logits of PyTorch and of an artifact for the test images, and the targets."""
    finished = FinishedRun.of(run_folder)
    test = load_test_split(finished, Silent())
    inputs = bundle.manifest.input.encode(test.load(np.arange(len(test)), finished.record.preprocessing))
    session = open_artifact(bundle, bundle.artifact(name), "cpu", 1)
    reference = TorchSession(load_deployable(finished), "cpu", 1)
    return reference.run(inputs)["logits"], session.run(inputs)["logits"], test.targets


@pytest.mark.parametrize("name", [*ONNX_FAMILY, "openvino"])
def test_a_server_that_serves_it_answers_the_golden_samples(
    exported: tuple[Bundle, str], tmp_path: Path, name: str
) -> None:
    artifact(exported[0], name)
    target, _ = deploy_triton(exported[0], tmp_path / "models", Wanted(artifact=name))
    model = TritonModel(target)
    model.warm_up()
    with serving(model) as url:
        assert check_folder(target, url) == 0


@pytest.mark.parametrize("name", ["onnx", "onnx-fp16", "openvino", "pt2"])
def test_it_is_the_same_model(trained: RunFolder, exported: tuple[Bundle, str], name: str) -> None:
    record = artifact(exported[0], name)
    expected, actual, _ = outputs(trained, exported[0], name)
    scale = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(actual - expected) / scale).max() < LOGITS[record.precision]
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.99


def test_the_8_bit_artifact_agrees_on_classes(trained: RunFolder, exported: tuple[Bundle, str]) -> None:
    expected, actual, targets = outputs(trained, exported[0], "onnx-int8")
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.95
    assert (actual.argmax(axis=1) == targets).mean() >= (expected.argmax(axis=1) == targets).mean() - 0.03
    assert not np.allclose(actual, expected, atol=1e-4)


def test_the_manifest_says_how_the_8_bit_artifact_was_found(trained: RunFolder, exported: tuple[Bundle, str]) -> None:
    bundle, said = exported
    search = bundle.artifact("onnx-int8").quantization
    assert search is not None
    assert search.validation_images == trained.record().data.splits["validation"].images
    assert search.calibration_images == 256
    assert len(search.candidates) >= 6
    chosen = [candidate for candidate in search.candidates if candidate.chosen]
    assert len(chosen) == 1
    assert (chosen[0].drop_points or 0) <= 2.5
    assert f"judged on {search.validation_images} validation images" in said
    assert "* the fastest that keeps the accuracy" in said
    assert bundle.artifact("onnx-int8").size_bytes < 0.4 * bundle.artifact("onnx").size_bytes
    assert bundle.artifact("onnx-fp16").size_bytes < 0.6 * bundle.artifact("onnx").size_bytes


@pytest.mark.parametrize("name", ONNX_FAMILY)
def test_the_profile_is_that_of_the_saved_files(exported: tuple[Bundle, str], name: str) -> None:
    record = exported[0].artifact(name)
    assert (record.opset, record.ir_version) == (18, 8)
    facts = get_format(name).facts(exported[0].file(record.file))
    assert (facts.opset, facts.ir_version) == (18, 8)
    assert set(facts.metadata) == {
        f"toolkit.{key}" for key in ("labels", "input", "preprocessing", "run", "backbone", "model_sha256")
    }


def test_files_beside_an_artifact_stand_in_the_manifest(exported: tuple[Bundle, str]) -> None:
    record = artifact(exported[0], "openvino")
    assert set(record.further_files) == {"model.openvino.bin"}
    assert record.total_bytes > 10 * record.size_bytes


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one batch"])
def test_opencv_reproduces_the_golden_samples(exported: tuple[Bundle, str], together: bool) -> None:
    """Other releases and networks: tests/compatibility/opencv.py."""
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    bundle, _ = exported
    record, golden = bundle.artifact("onnx"), bundle.golden()
    inputs = bundle.manifest.input.encode(bundle.golden_images())
    network = cv2.dnn.readNetFromONNX(str(bundle.file(record.file)))
    assert record.tolerance is not None
    logits = []
    for batch in [inputs] if together else np.split(inputs, len(inputs)):
        network.setInput(batch)
        logits.append(network.forward("logits"))
    expected = np.array([case.logits for case in golden.cases], np.float32)
    allowed = record.tolerance.logits_absolute + record.tolerance.logits_relative * np.abs(expected).max(axis=1)
    assert (np.abs(np.concatenate(logits) - expected).max(axis=1) <= allowed).all()
