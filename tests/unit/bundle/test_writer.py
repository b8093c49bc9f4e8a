from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.folder import read_manifest
from toolkit.bundle.trust.check import LARGEST_MANIFEST, parse_manifest
from toolkit.bundle.trust.signature import make_keys
from toolkit.bundle.writer import MOST_CONFUSIONS, new_bundle, sign_bundle, write_golden, write_manifest
from toolkit.errors import ExportError, FileWriteError
from toolkit.files import write_text
from toolkit.results import ClassScore, Evaluation, Interval

REAL = Path(__file__).parents[2] / "assets" / "manifests" / "version-2.json"


def test_the_first_manifest_lists_every_file_that_export_put_there(colour_bundle: Path, tmp_path: Path) -> None:
    """Some formats need a second file, such as OpenVINO's weights."""
    manifest = Bundle.open(colour_bundle).manifest
    with new_bundle(tmp_path / "second") as folder:
        (folder / "model.onnx").write_bytes((colour_bundle / "model.onnx").read_bytes())
        (folder / "more").mkdir()
        (folder / "more" / "weights.bin").write_bytes(b"weights")
        write_manifest(folder, manifest.model_copy(update={"files": {}}))
    assert set(Bundle.open(tmp_path / "second").manifest.files) == {
        ".gitattributes",
        "MODEL_CARD.md",
        "README.md",
        "labels.txt",
        "more/weights.bin",
    }


def test_a_bundle_survives_a_git_that_changes_line_ends(colour_bundle: Path, tmp_path: Path) -> None:
    def git(folder: Path, *arguments: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "core.autocrlf=true")
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

    manifest = read_manifest(colour_bundle)
    with new_bundle(tmp_path / "repository" / "model") as folder:
        shutil.copytree(colour_bundle, folder, dirs_exist_ok=True)
        (folder / "manifest.json").unlink()
        write_manifest(folder, manifest)
    git(tmp_path / "repository", "init", "--quiet", "--initial-branch=main")
    git(tmp_path / "repository", "add", "--all")
    git(tmp_path / "repository", "commit", "--quiet", "--message=bundle")
    git(tmp_path, "clone", "--quiet", str(tmp_path / "repository"), "checkout")
    assert b"\r\n" not in (tmp_path / "checkout" / "model" / "README.md").read_bytes()
    Bundle.open(tmp_path / "checkout" / "model")


def test_a_later_manifest_blesses_nothing_that_was_added_since(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    (colour_bundle / "extra").write_bytes(b"x")
    assert set(write_manifest(colour_bundle, manifest).files) == set(manifest.files)


def test_a_precision_with_a_tolerance_gets_it_and_another_gets_none(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    assert manifest.artifacts[0].tolerance is not None
    other = manifest.artifacts[0].model_copy(update={"precision": "unheard of", "tolerance": None})
    assert (
        write_manifest(colour_bundle, manifest.model_copy(update={"artifacts": (other,)})).artifacts[0].tolerance
        is None
    )


@pytest.mark.parametrize("moment", range(6))
def test_a_kill_at_any_moment_leaves_a_bundle_that_opens(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    manifest = read_manifest(colour_bundle).model_copy(update={"name": "later"})
    calls = 0

    class Killed(BaseException):
        pass

    def counting(name: str) -> None:
        real = getattr(Path, name)

        def call(self: Path, *arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls > moment:
                raise Killed
            return real(self, *arguments, **named)

        monkeypatch.setattr(Path, name, call)

    for name in ("unlink", "replace"):
        counting(name)
    with pytest.raises(Killed):
        write_manifest(colour_bundle, manifest)
    monkeypatch.undo()
    assert Bundle.open(colour_bundle).manifest.name in ("colours", "later")


@pytest.mark.parametrize("last", ["MODEL_CARD.md", "manifest.json"])
def test_a_full_disk_takes_nothing_away(
    colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    private = tmp_path / "key"
    make_keys(private, tmp_path / "key.pub")
    sign_bundle(colour_bundle, private)

    def full(target: Path, content: str) -> None:
        if target.name.endswith(last):
            raise FileWriteError(f"cannot write {target}: No space left on device.")
        write_text(target, content)

    monkeypatch.setattr("toolkit.bundle.writer.write_text", full)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileWriteError, match="No space left"):
        write_manifest(colour_bundle, read_manifest(colour_bundle).model_copy(update={"name": "other"}))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_samples_that_nothing_can_be_compared_with_are_not_written(tmp_path: Path) -> None:
    outputs = {"logits": np.full((1, 3), np.nan, np.float32), "probabilities": np.zeros((1, 3), np.float32)}
    with pytest.raises(ExportError, match="not finite on the golden samples"):
        write_golden(tmp_path, np.zeros((1, 8, 8, 3), np.uint8), outputs, ["a"], [None], ("a", "b", "c"))
    assert list(tmp_path.iterdir()) == []


def test_a_confusion_matrix_that_would_be_huge_stays_in_the_run(colour_bundle: Path, tmp_path: Path) -> None:
    real: Manifest = parse_manifest(REAL.read_bytes(), REAL)
    for classes, kept in ((MOST_CONFUSIONS, True), (MOST_CONFUSIONS + 1, False)):
        folder = tmp_path / str(classes)
        folder.mkdir()
        labels = tuple(str(number) for number in range(classes))
        assert bool(write_manifest(folder, real.model_copy(update={"labels": labels})).evaluation.confusion) is kept  # type: ignore[union-attr]  # it has one


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_written_is_one_sentence(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    colour_bundle.chmod(0o500)
    try:
        with pytest.raises(FileWriteError, match="cannot write into the bundle"):
            write_manifest(colour_bundle, manifest)
    finally:
        colour_bundle.chmod(0o700)


def evaluation_of(labels: tuple[str, ...]) -> Evaluation:
    """Return one whose confusion matrix has as many digits as that of 50,000 images."""
    chance, classes = np.random.default_rng(0), len(labels)
    confusion = np.where(chance.random((classes, classes)) < 0.01, 1, 0) + np.diag(np.full(classes, 45))
    return Evaluation(
        split="test",
        images=50 * classes,
        top1=0.9,
        top1_interval=Interval(low=0.89, high=0.91),
        top5=0.99,
        loss=0.3,
        expected_calibration_error=0.05,
        classes=tuple(ClassScore(label=name, support=50, precision=1 / 3, recall=2 / 3) for name in labels),
        confusion=tuple(tuple(row) for row in confusion.tolist()) if classes <= MOST_CONFUSIONS else (),
    )


@pytest.mark.parametrize(("classes", "kept"), [(1000, ("confusion", "classes")), (21_841, ())])
def test_what_grows_with_the_classes_is_kept_as_far_as_it_is_read(
    colour_bundle: Path, classes: int, kept: tuple[str, ...]
) -> None:
    labels = tuple(f"n{number:08d} a realistic label, with a synonym {number}" for number in range(classes))
    manifest = read_manifest(colour_bundle)
    outputs = tuple(output.model_copy(update={"shape": ("N", classes)}) for output in manifest.outputs)
    evaluation = evaluation_of(labels)
    (colour_bundle / "manifest.json").unlink()
    (colour_bundle / "MODEL_CARD.md").unlink()
    changes = {"labels": labels, "outputs": outputs, "evaluation": evaluation}
    written = write_manifest(colour_bundle, manifest.model_copy(update=changes))
    assert (colour_bundle / "manifest.json").stat().st_size < LARGEST_MANIFEST
    again = read_manifest(colour_bundle)
    assert again == written
    assert again.labels == labels
    assert again.evaluation is not None
    for part in ("confusion", "classes"):
        assert getattr(again.evaluation, part) == (getattr(evaluation, part) if part in kept else ())
    card = (colour_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert ("results of each class would make the manifest too large" in card) is not bool(kept)


def test_a_manifest_that_nobody_would_read_is_not_written_and_the_old_one_stays(colour_bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in colour_bundle.iterdir() if path.is_file()}
    manifest = read_manifest(colour_bundle)
    with pytest.raises(ExportError, match=r"would have \d+ bytes, and at most 4194304 are read: use shorter names"):
        write_manifest(colour_bundle, manifest.model_copy(update={"intended_use": "x" * LARGEST_MANIFEST}))
    assert {path.name: path.read_bytes() for path in colour_bundle.iterdir() if path.is_file()} == before
    assert [path.name for path in colour_bundle.parent.iterdir()] == ["bundle"]
