from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from torch import nn

from toolkit import provenance
from toolkit.backbones import restore
from toolkit.backbones.deployable import Deployable, TorchSession, input_contract, output_contracts
from toolkit.bundle import ArtifactRecord, Bundle, Manifest, read_manifest
from toolkit.bundle.content import Content
from toolkit.bundle.manifest import Normalization, Origin
from toolkit.bundle.writer import new_bundle, write_golden, write_manifest
from toolkit.data import of_run
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import BundleError, FileWriteError, MissingDependencyError, RecipeError, RunError
from toolkit.files import sha256_file
from toolkit.formats import opening
from toolkit.preprocess import Preprocessing
from toolkit.recipe import Recipe
from toolkit.results import ParityReport
from toolkit.run_folder import DataSummary, RunFolder, RunRecord, SplitSummary
from toolkit.verify import candidate, gate
from toolkit.verify import run as stage

SIZE, LABELS = 16, ("cat", "dog", "eel")
NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
PREPROCESSING = Preprocessing(height=SIZE, width=SIZE, resize="squash", interpolation="bilinear")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 3), dtype=np.uint8)
FINGERPRINT = "f" * 64


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, len(LABELS)))


class FakeFormat:
    """Opens PyTorch itself; ``offset`` is added to its logits."""

    precision = "float32"
    narrow_type = None
    bisectable = False

    def __init__(self, offset: float = 0.0) -> None:
        self._offset = offset
        self.opened: list[tuple[Content, str, int]] = []

    def endless(self, content: Content) -> None:
        return None

    def open(self, content: Content, device: str, threads: int) -> Any:
        self.opened.append((content, device, threads))
        session = TorchSession(Deployable(network(), NORMALIZATION), device, threads)

        def run(inputs: np.ndarray) -> Any:
            outputs = session.run(inputs)
            return {**outputs, "logits": outputs["logits"] + np.float32(self._offset)}

        return SimpleNamespace(device="cpu", engine="fake", threads=threads, run=run)


class FakeSplit:
    targets = np.arange(12) % 3
    sources = tuple(IMAGES)
    names = tuple(f"test/{index:05d}" for index in range(12))
    fingerprint = FINGERPRINT
    max_pixels = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.targets)

    def load(self, indices: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
        assert preprocessing == PREPROCESSING
        return IMAGES[indices]


def write_run(path: Path) -> RunFolder:
    run = RunFolder(path)
    path.mkdir()
    Recipe(name="tiny").save(run.recipe_file)
    run.model_file.write_bytes(b"weights")
    made = provenance.collect()
    digest = sha256_file(run.model_file)
    RunRecord(
        name="tiny",
        recipe="tiny",
        labels=LABELS,
        backbone="torchvision:tiny",
        weights="random",
        parameters=1,
        normalization=NORMALIZATION,
        preprocessing=PREPROCESSING,
        data=DataSummary(
            source="digits",
            splits={"test": SplitSummary(images=12, per_class=(4, 4, 4), fingerprint=FINGERPRINT)},
            skipped=(),
        ),
        stages=(),
        best_stage=1,
        best_epoch=1,
        best_validation_accuracy=1.0,
        model_sha256=digest,
        device="cpu",
        threads=1,
        seconds=1.0,
        provenance=made,
    ).save(run.record_file)
    contract = input_contract(NORMALIZATION, SIZE, SIZE)
    outputs = TorchSession(Deployable(network(), NORMALIZATION)).run(IMAGES[:3])
    with new_bundle(run.bundle) as folder:
        (folder / "model.fake").write_bytes(b"artifact")
        artifact = ArtifactRecord(
            format="fake",
            precision="float32",
            file="model.fake",
            sha256=sha256_file(folder / "model.fake"),
            size_bytes=8,
            opset=None,
            ir_version=None,
            producer="test",
        )
        origin = Origin(
            run="tiny",
            recipe="",
            backbone="tiny",
            weights="random",
            model_sha256=digest,
            data="digits",
            data_fingerprints={},
            provenance=made,
        )
        manifest = Manifest(
            name="tiny",
            labels=LABELS,
            preprocessing=PREPROCESSING,
            input=contract,
            outputs=output_contracts(len(LABELS)),
            artifacts=(artifact,),
            files=write_golden(folder, IMAGES[:3], outputs, FakeSplit.names[:3], LABELS, LABELS),
            evaluation=None,
            origin=origin,
        )
        write_manifest(folder, manifest)
    return run


def rewrite_manifest(run: RunFolder, **changes: object) -> None:
    write_manifest(run.bundle, read_manifest(run.bundle).model_copy(update=changes))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "tiny")


@pytest.fixture
def fake_format(monkeypatch: pytest.MonkeyPatch) -> FakeFormat:
    made = FakeFormat()
    monkeypatch.setattr(restore, "build_architecture", lambda name, classes, image_size: network())
    monkeypatch.setattr(restore, "load_weights", lambda model, path: None)
    monkeypatch.setattr(of_run, "load_dataset", lambda *args, **kwargs: SimpleNamespace(split=lambda name: FakeSplit()))
    for module in (candidate, opening):
        monkeypatch.setattr(module, "get_format", lambda name, family=None: made)
    monkeypatch.setattr(gate, "available_cores", lambda: 2)
    return made


def test_a_good_bundle_passes_and_everything_is_written(run: RunFolder, fake_format: FakeFormat) -> None:
    report = stage.verify_run(run, threads=1)
    assert report.passed
    assert ParityReport.load(run.parity_file, "toolkit verify") == report
    assert ET.parse(run.junit_file).getroot().get("failures") == "0"
    content = Content(run.bundle / "model.fake", "model.fake", {"model.fake": b"artifact"})
    assert fake_format.opened == [(content, "cpu", threads) for threads in (1, 2)]
    (artifact,) = Bundle.open(run.bundle).manifest.artifacts
    assert artifact.parity is not None
    assert artifact.parity.passed
    assert artifact.parity.test_images == 12
    assert report.reference == f"torch {torch.__version__} on the CPU"
    (judged,) = report.artifacts
    assert judged.rounding is not None
    assert 0 < judged.rounding.ratio < 10
    assert (judged.rounding.images, artifact.parity.rounding_ratio) == (12 + 18, judged.rounding.ratio)
    assert judged.accuracy is not None
    assert judged.accuracy.images == 12
    assert artifact.parity.accuracy_interval == judged.accuracy.interval
    assert artifact.parity.failed_checks == ()
    preprocessing, labels = report.checks
    assert preprocessing.passed
    assert labels.passed
    assert "3 golden samples" in preprocessing.detail


def test_all_test_images_where_no_number_is_given(run: RunFolder, fake_format: FakeFormat) -> None:
    assert stage.verify_run(run, threads=1, images=None).artifacts[0].test_images == 12
    assert stage.verify_run(run, threads=1, images=5).artifacts[0].test_images == 5


def test_golden_pixels_that_this_machine_would_prepare_otherwise_fail(
    run: RunFolder, fake_format: FakeFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = IMAGES.copy()
    changed[1, 3, 4] ^= 2
    monkeypatch.setattr(FakeSplit, "sources", tuple(changed))
    report = stage.verify_run(run, threads=1)
    assert not report.passed
    assert all(artifact.passed for artifact in report.artifacts)
    assert report.checks[0].failures == (
        "golden sample golden/001.bin (test/00001) differs in 1 of 256 pixels, by up to 2",
    )
    assert ET.parse(run.junit_file).getroot().get("failures") == "1"


def test_threads_are_all_cores_unless_given(
    run: RunFolder, fake_format: FakeFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "default_threads", lambda: 2)
    assert stage.verify_run(run, images=3).artifacts[0].threads == 2


def test_a_wrong_artifact_is_a_report_and_not_an_exception(run: RunFolder, fake_format: FakeFormat) -> None:
    fake_format._offset = 0.5
    report = stage.verify_run(run, threads=1, images=5)
    assert not report.passed
    assert report.artifacts[0].test_images == 5
    assert any(sentence.startswith("logits differ by 0.5 on") for sentence in report.artifacts[0].failures)
    failed = [check.name for check in report.artifacts[0].checks if not check.passed]
    assert failed == ["outputs", "batch sizes", "rounding", "golden samples"]
    assert ET.parse(run.junit_file).getroot().get("failures") == "4"
    (artifact,) = Bundle.open(run.bundle).manifest.artifacts
    assert artifact.parity is not None
    assert not artifact.parity.passed


def test_an_artifact_whose_engine_is_missing_is_named_and_keeps_the_verdict_it_has(
    run: RunFolder, fake_format: FakeFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.bundle / "model.other").write_bytes(b"another")
    manifest = read_manifest(run.bundle)
    other = manifest.artifacts[0].model_copy(
        update={"format": "other", "file": "model.other", "sha256": sha256_file(run.bundle / "model.other")}
    )
    rewrite_manifest(run, artifacts=(*manifest.artifacts, other.model_copy(update={"size_bytes": 7})))
    assert [artifact.passed for artifact in stage.verify_run(run, threads=1, images=3).artifacts] == [True, True]
    verified = read_manifest(run.bundle).artifacts[1].parity
    opened = fake_format.open

    def without_an_engine(content: Content, device: str, threads: int) -> Any:
        if content.name == "model.other":
            raise MissingDependencyError("its engine is not installed.")
        return opened(content, device, threads)

    monkeypatch.setattr(fake_format, "open", without_an_engine)
    report = stage.verify_run(run, threads=1, images=3)
    assert report.passed
    assert [artifact.file for artifact in report.artifacts] == ["model.fake"]
    assert ParityReport.load(run.parity_file, "toolkit verify").not_judged == {
        "model.other": "its engine is not installed."
    }
    assert verified is not None
    assert read_manifest(run.bundle).artifacts[1].parity == verified


def test_tolerances_can_be_replaced_and_are_recorded(run: RunFolder, fake_format: FakeFormat) -> None:
    fake_format._offset = 0.5
    limits = {"logits_absolute": 1.0, "rounding_multiple": 1e9}
    report = stage.verify_run(run, threads=1, tolerances=limits)
    assert report.passed
    assert report.artifacts[0].tolerance.logits_absolute == 1.0
    verdict = read_manifest(run.bundle).artifacts[0].parity
    assert verdict is not None
    assert verdict.tolerance == report.artifacts[0].tolerance


@pytest.mark.usefixtures("fake_format")
def test_new_weights_beside_an_old_bundle_are_refused(run: RunFolder) -> None:
    run.model_file.write_bytes(b"trained again")
    run.record().model_copy(update={"model_sha256": sha256_file(run.model_file)}).save(run.record_file)
    with pytest.raises(RunError, match=r"exported from other weights than .*: run 'toolkit export' again"):
        stage.verify_run(run, threads=1)
    assert not run.parity_file.exists()


@pytest.mark.usefixtures("fake_format")
def test_weights_that_are_not_those_of_the_run_are_refused(run: RunFolder) -> None:
    run.model_file.write_bytes(b"something else")
    with pytest.raises(RunError, match=r"is not the file that run\.json describes"):
        stage.verify_run(run, threads=1)
    run.model_file.unlink()
    with pytest.raises(RunError, match="is missing"):
        stage.verify_run(run, threads=1)


@pytest.mark.usefixtures("fake_format")
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"labels": ("dog", "cat", "eel")}, "labels"),
        ({"preprocessing": PREPROCESSING.model_copy(update={"interpolation": "box"})}, "preprocessing"),
        ({"input": input_contract(Normalization(mean=(0, 0, 0), std=(1, 1, 1)), SIZE, SIZE)}, "normalisation"),
    ],
)
def test_a_bundle_with_another_meaning_is_refused(run: RunFolder, changes: dict[str, object], named: str) -> None:
    rewrite_manifest(run, **changes)
    with pytest.raises(RunError, match=f"has other {named} than"):
        stage.verify_run(run, threads=1)


@pytest.mark.usefixtures("fake_format")
def test_other_test_images_are_refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSplit, "fingerprint", "0" * 64)
    with pytest.raises(RunError, match="their fingerprint differs"):
        stage.verify_run(run, threads=1)


@pytest.mark.usefixtures("fake_format")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"threads": 0}, "0 threads"),
        ({"threads": 1, "images": 0}, "0 test images"),
        ({"threads": 1, "tolerances": {"atol": 1.0}}, "has no atol"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(run: RunFolder, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        stage.verify_run(run, **arguments)


@pytest.mark.usefixtures("fake_format")
def test_a_run_without_a_bundle_is_refused(run: RunFolder) -> None:
    run.bundle.rename(run.path / "elsewhere")
    with pytest.raises(BundleError, match="toolkit export"):
        stage.verify_run(run, threads=1)


def test_two_processes_do_not_judge_one_run(run: RunFolder, fake_format: FakeFormat) -> None:
    with (
        run.only_writer(),
        pytest.raises(RunError, match=r"another process is writing the run 'tiny': wait for it to end"),
    ):
        stage.verify_run(run, threads=1)
    assert not run.parity_file.exists()


def test_a_run_that_cannot_be_written_is_refused_before_anything_is_compared(
    run: RunFolder, fake_format: FakeFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**where: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(FileWriteError, match=r"tiny: Permission denied\. The verdicts are written into the run"):
        stage.verify_run(run, threads=1)
    assert fake_format.opened == []
