from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from toolkit.api import stages
from toolkit.bundle import Manifest, read_manifest
from toolkit.bundle.manifest import MANIFEST_NAME, SIGNATURE_NAME, ParityVerdict
from toolkit.bundle.writer import write_manifest
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import BundleError, ExportError, FileWriteError, MissingDependencyError, RunError
from toolkit.progress import Silent
from toolkit.recipe import Recipe
from toolkit.results import ParityReport
from toolkit.run_folder import FinishedRun, RunFolder


@pytest.fixture
def run(one_run: Path, tmp_path: Path) -> FinishedRun:
    shutil.copytree(one_run / "mine", tmp_path / "mine")
    return FinishedRun.of(RunFolder(tmp_path / "mine"))


@pytest.fixture
def exported(run: FinishedRun, colour_bundle: Path) -> FinishedRun:
    shutil.copytree(colour_bundle, run.folder.bundle)
    return run


def with_verdict(run: FinishedRun, *, passed: bool) -> None:
    """Write a verdict on the one artifact into the manifest."""
    verdict = ParityVerdict(
        passed=passed,
        failures=(),
        device="cpu",
        test_images=1,
        max_absolute_logits=0.0,
        top1_agreement=1.0,
        tolerance=TOLERANCES["float32"],
        verified="2026-01-01T00:00:00+00:00",
    )
    manifest: Manifest = read_manifest(run.folder.bundle)
    judged = tuple(artifact.model_copy(update={"parity": verdict}) for artifact in manifest.artifacts)
    write_manifest(run.folder.bundle, manifest.model_copy(update={"artifacts": judged}), own=True)


def test_an_export_is_refused_before_anything_is_imported(run: FinishedRun) -> None:
    stages.require_exportable(run, run.recipe.export, Silent())
    with pytest.raises(ExportError, match="nothing"):
        stages.require_exportable(run, run.recipe.override({"export.formats": "nothing"}).export, Silent())
    run.folder.model_file.write_bytes(b"other")
    with pytest.raises(RunError, match="is not the file that"):
        stages.require_exportable(run, run.recipe.export, Silent())


def test_what_is_verified_or_measured_has_a_bundle(run: FinishedRun) -> None:
    with pytest.raises(RunError, match="has no bundle yet"):
        stages.require_verifiable(run, Silent())
    with pytest.raises(RunError, match="has no bundle yet"):
        stages.require_measurable(run)


def test_a_damaged_manifest_is_said_before_pytorch_is_loaded(exported: FinishedRun) -> None:
    (exported.folder.bundle / MANIFEST_NAME).write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        stages.require_verifiable(exported, Silent())
    with pytest.raises(BundleError, match="is not JSON"):
        stages.require_measurable(exported)


def test_a_sign_of_life_comes_before_pytorch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    reporter = Silent()
    monkeypatch.setattr(reporter, "line", said.append)
    with stages.loading(reporter):
        assert said == ["loading PyTorch ..."]
    monkeypatch.setenv("RANK", "1")
    with stages.loading(reporter):
        assert len(said) == 1


def test_what_has_a_bundle_is_taken(exported: FinishedRun) -> None:
    assert stages.require_verifiable(exported, Silent()) == exported.folder.bundle
    assert stages.require_measurable(exported) == exported.folder.bundle


def test_without_pytorch_the_way_out_is_said(exported: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*names: str) -> None:
        raise MissingDependencyError(f"this needs {names[0]}.")

    monkeypatch.setattr(stages, "require_for_training", missing)
    with pytest.raises(MissingDependencyError, match=r"this needs torch\. Or give the bundle, .*mine/bundle"):
        stages.require_verifiable(exported, Silent())
    assert stages.require_measurable(exported) == exported.folder.bundle


def test_only_what_has_no_verdict_is_verified_first(exported: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("toolkit.verify.run.verify_run", lambda run, **how: asked.append((run, how)))
    stages.verify_first(exported, Silent(), allow_code=True)
    ((run, how),) = asked
    assert (run, how["allow_code"]) == (exported, True)
    with_verdict(exported, passed=False)
    assert stages.verify_first(exported, Silent()) is None
    assert len(asked) == 1


@pytest.mark.parametrize("passed", [True, False])
def test_all_have_passed_or_not(exported: FinishedRun, passed: bool) -> None:
    assert not stages.all_passed(exported, None)
    with_verdict(exported, passed=passed)
    assert stages.all_passed(exported, None) is passed


def test_an_artifact_that_could_not_be_judged_is_an_error(exported: FinishedRun, parity: ParityReport) -> None:
    report = parity.model_copy(update={"not_judged": {"model.onnx": "onnxruntime is not installed."}})
    with pytest.raises(MissingDependencyError, match="onnxruntime is not installed"):
        stages.all_passed(exported, report)


def test_a_signature_that_is_lost_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    with stages.telling_of_lost_signature(tmp_path, told.append):
        pass
    assert told == []
    (tmp_path / SIGNATURE_NAME).touch()
    with stages.telling_of_lost_signature(tmp_path, told.append):
        (tmp_path / SIGNATURE_NAME).unlink()
    assert told == [
        f"{tmp_path} is no longer signed, because its manifest has changed: sign it again with 'toolkit sign'."
    ]


def test_folders_that_cannot_be_written_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    stages.require_room(tmp_path, None, Recipe())
    with pytest.raises(FileWriteError, match="Give --artifacts another folder"):
        stages.require_room(tmp_path / "file", None, Recipe())
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileWriteError, match="TOOLKIT_CACHE"):
        stages.require_room(tmp_path, None, Recipe())
    stages.require_room(tmp_path, None, Recipe().override({"cache.use": False}))
    monkeypatch.setenv("RANK", "1")
    stages.require_room(tmp_path / "file", None, Recipe())
