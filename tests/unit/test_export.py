"""From a finished run to a bundle: what is read, what is written, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import CHANGES, SIZE, write_finished_run

from toolkit import export, run_folder
from toolkit.backbones.deployable import input_contract
from toolkit.backbones.exact import outputs_in
from toolkit.backbones.restore import load_deployable
from toolkit.bundle import Bundle
from toolkit.bundle.content import Content
from toolkit.bundle.edges import golden_edges
from toolkit.bundle.manifest import golden_source
from toolkit.cli.main import main
from toolkit.data.dataset import Split
from toolkit.data.of_run import load_test_split
from toolkit.errors import ExportError, RunError
from toolkit.export import deployable_size, export_run
from toolkit.formats import registry
from toolkit.formats.base import Exported, Facts, NotExported
from toolkit.formats.registry import get_format
from toolkit.progress import Silent
from toolkit.recipe import ExportRecipe, Recipe, parse_recipe
from toolkit.results import Evaluation
from toolkit.run_folder import FinishedRun, RunFolder
from toolkit.runtime.selftest import selftest_bundle


class FakeFormat:
    """Writes a few bytes; a test changes what it says and does."""

    name, precision, suffix, calibrates = "fake", "float32", ".fake", False
    family = engine = "fake"
    usage: str | None = None
    carries_code = False
    reason: str | None = None
    outcome: Exported | NotExported = Exported()
    also_writes: str | None = None

    def __init__(self) -> None:
        self.calibrations: list[Any] = []

    def unavailable(self) -> str | None:
        return self.reason

    def export(
        self, deployable: Any, sample: Any, path: Path, request: Any, calibration: Any
    ) -> Exported | NotExported:
        self.calibrations.append(calibration)
        if isinstance(self.outcome, Exported):
            path.write_bytes(b"artifact")
        if self.also_writes is not None:
            (path.parent / self.also_writes).write_bytes(b"more")
        return self.outcome

    def facts(self, path: Path) -> Facts:
        return Facts(producer="fake 1")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_finished_run(tmp_path / "artifacts" / "tiny")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeFormat:
    """Let every format be a fake one."""
    fake = FakeFormat()
    for module in (export, registry):
        monkeypatch.setattr(module, "get_format", lambda name: fake)
    return fake


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the files that are parsed as a run's recipe."""
    files: list[str] = []

    def spy(text: str, origin: str) -> Recipe:
        files.append(origin)
        return parse_recipe(text, origin)

    monkeypatch.setattr(run_folder, "parse_recipe", spy)
    return files


def test_the_bundle_says_what_the_run_says(run: RunFolder) -> None:
    manifest = export_run(run)
    assert Bundle.open(run.bundle).manifest == manifest
    record = run.record()
    assert (manifest.name, manifest.labels, manifest.preprocessing) == ("tiny", record.labels, record.preprocessing)
    assert manifest.evaluation == Evaluation.load(run.evaluation_file, "toolkit finetune")
    origin = manifest.origin
    assert parse_recipe(origin.recipe, "the manifest") == run.recipe()
    assert (origin.run, origin.model_sha256, origin.data) == ("tiny", record.model_sha256, "digits")
    assert origin.data_fingerprints == {name: split.fingerprint for name, split in record.data.splits.items()}
    (artifact,) = manifest.artifacts
    assert (artifact.format, artifact.file) == ("torchscript", "model.torchscript.pt")


def test_the_bundle_names_no_folder_of_this_machine(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run.record()
    data = record.data.model_copy(update={"source": "/home/somebody/photos"})
    record.model_copy(update={"data": data, "weights_license": "CC-BY-4.0"}).save(run.record_file)
    changes = {"data.root": "/mnt/disk", "backbone.weights": "/home/somebody/weights.pth"}
    Recipe().override(CHANGES | changes).save(run.recipe_file)
    listed = export.load_test_split

    def elsewhere(*arguments: Any) -> Split:
        split = listed(*arguments)
        return dataclasses.replace(split, names=tuple(f"/home/somebody/{name}" for name in split.names))

    monkeypatch.setattr(export, "load_test_split", elsewhere)
    origin = export_run(run).origin
    assert (origin.data, origin.weights_license) == ("photos", "CC-BY-4.0")
    recipe = parse_recipe(origin.recipe, "the manifest")
    assert (recipe.backbone.weights, recipe.data.root) == ("weights.pth", None)
    for path in run.bundle.rglob("*"):
        assert not path.is_file() or not any(word in path.read_bytes() for word in (b"somebody", b"/mnt"))


def test_the_bundle_names_no_file_of_the_user(run: RunFolder) -> None:
    names = load_test_split(FinishedRun.of(run), Silent()).names
    export_run(run)
    texts = [path.read_bytes() for path in run.bundle.rglob("*") if path.is_file() and path.suffix != ".bin"]
    assert len(texts) > 4
    assert [name for name in names if any(name.encode() in text for text in texts)] == []


def test_golden_samples_are_test_images_with_what_the_artifact_answers(run: RunFolder) -> None:
    export_run(run)
    expected = json.loads((run.bundle / "golden" / "expected.json").read_text(encoding="utf-8"))
    samples = expected["cases"]
    images = [sample for sample in samples if sample["kind"] == "image"]
    assert samples[: export.GOLDEN_SAMPLES] == images
    assert len({sample["true_label"] for sample in images}) == len(images) == export.GOLDEN_SAMPLES
    assert [sample["source"] for sample in samples if sample["kind"] == "edge"] == list(golden_edges(SIZE, SIZE)[0])
    assert set(expected["rounding"]) == {"float32"}
    assert 0 < expected["rounding"]["float32"] < 1e-5
    assert expected["limits"] == {}
    session = get_format("torchscript").open(Content.of(run.bundle / "model.torchscript.pt"), "cpu", 1)
    for sample in samples:
        pixels = np.fromfile(run.bundle / sample["file"], np.uint8).reshape(1, SIZE, SIZE, 3)
        np.testing.assert_allclose(session.run(pixels)["logits"][0], sample["logits"], atol=1e-4)


@pytest.mark.parametrize("calibrates", [True, False])
def test_the_recipe_is_parsed_once(run: RunFolder, fake: FakeFormat, parsed: list[str], calibrates: bool) -> None:
    fake.calibrates = calibrates
    export_run(run)
    assert parsed == [str(run.recipe_file)]


def test_the_command_parses_the_recipe_once(
    run: RunFolder, fake: FakeFormat, parsed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.calibrates = True
    with pytest.raises(SystemExit) as left:
        main(["export", "--run", "tiny", "--artifacts", str(run.path.parent), "--formats", "fake", "--quiet"])
    assert left.value.code == 0
    assert capsys.readouterr().out.count(str(run.bundle)) == 1
    assert parsed == [str(run.recipe_file)]


def test_a_run_that_was_read_is_not_read_again(run: RunFolder, fake: FakeFormat, parsed: list[str]) -> None:
    finished = FinishedRun.of(run)
    parsed.clear()
    export_run(finished)
    assert parsed == []


def test_only_a_format_that_calibrates_gets_images(run: RunFolder, fake: FakeFormat) -> None:
    export_run(run)
    fake.calibrates = True
    export_run(run)
    without, images = fake.calibrations
    assert without is None
    splits = run.record().data.splits
    assert (images.training_images, images.validation_images) == (splits["train"].images, splits["validation"].images)


def test_a_format_that_makes_nothing_is_a_result(run: RunFolder, fake: FakeFormat) -> None:
    fake.outcome = NotExported("nothing is good enough")
    manifest = export_run(run)
    assert manifest.artifacts == ()
    assert [(refused.format, refused.reason) for refused in manifest.not_exported] == [
        ("fake", "nothing is good enough")
    ]


def unusable(fake: FakeFormat) -> None:
    fake.reason = "there is no engine"


def careless(fake: FakeFormat) -> None:
    fake.also_writes = "model.notes"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (unusable, "the format 'fake' cannot be used here: there is no engine"),
        (careless, r"'fake' did not write exactly the files it says it did \(model\.notes\)"),
    ],
)
def test_a_format_that_fails_leaves_the_older_bundle(
    run: RunFolder, fake: FakeFormat, change: Callable[[FakeFormat], None], sentence: str
) -> None:
    export_run(run)
    before = (run.bundle / "manifest.json").read_bytes()
    change(fake)
    with pytest.raises(ExportError, match=sentence):
        export_run(run)
    assert (run.bundle / "manifest.json").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
def test_two_exports_of_one_run_do_not_tear_each_others_bundle_down(run: RunFolder, fake: FakeFormat) -> None:
    with run.only_writer(), pytest.raises(RunError, match=r"another process is writing the run .*: wait for it"):
        export_run(run)
    assert not run.bundle.exists()
    assert [artifact.format for artifact in export_run(run).artifacts] == [fake.name]


def test_two_formats_cannot_write_one_file(run: RunFolder, fake: FakeFormat) -> None:
    with pytest.raises(ExportError, match=r"two formats want to write model\.fake"):
        export_run(run, options=ExportRecipe.model_validate({"formats": ("fake", "other")}))


def test_other_weights_than_the_runs_are_refused(run: RunFolder) -> None:
    run.model_file.write_bytes(b"others")
    with pytest.raises(RunError, match="is not the file that"):
        export_run(run)


@pytest.mark.parametrize("takes_images", [True, False])
def test_the_size_is_read_from_either_contract(run: RunFolder, takes_images: bool) -> None:
    assert deployable_size(input_contract(run.record().normalization, 4, 6, takes_images)) == (4, 6)


def test_golden_images_are_those_that_the_network_is_surest_of(run: RunFolder) -> None:
    export_run(run)
    finished = FinishedRun.of(run)
    test = load_test_split(finished, Silent())
    deployable = load_deployable(finished, True)
    cases = [case for case in Bundle.open(run.bundle).golden().cases if case.kind == "image"]
    for case in cases:
        label = finished.record.labels.index(case.true_label)
        candidates = np.flatnonzero(test.targets == label)[: export.GOLDEN_CANDIDATES]
        exact = outputs_in("float64", deployable, test.load(candidates, finished.record.preprocessing), 1)
        assert exact is not None
        sure = exact["probabilities"][:, label]
        chosen = [golden_source(index) for index in candidates].index(case.source)
        assert sure[chosen] == pytest.approx(sure.max(), abs=1e-6)
        np.testing.assert_array_equal(np.array(case.logits, np.float32), exact["logits"][chosen])


def test_an_8_bit_artifact_gets_limits_from_what_it_says_at_export(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(get_format("torchscript")), "precision", "int8")
    (artifact,) = export_run(run).artifacts
    limits = Bundle.open(run.bundle).golden().limits
    assert set(limits) == {artifact.file}
    assert limits[artifact.file].mean_divergence == pytest.approx(0.01, abs=1e-3)
    assert limits[artifact.file].edge_error == pytest.approx(0.05, abs=1e-3)
    (result,) = selftest_bundle(Bundle.open(run.bundle))
    assert result.failures == ()
    assert result.mean_divergence is not None


def test_an_8_bit_artifact_that_this_machine_cannot_run_gets_the_usual_limits(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(get_format("torchscript")), "precision", "int8")

    def cannot(*_: object) -> None:
        raise RuntimeError("it needs another processor")

    monkeypatch.setattr(export, "measured_limits", cannot)
    (artifact,) = export_run(run).artifacts
    limits = Bundle.open(run.bundle).golden().limits[artifact.file]
    assert (limits.mean_divergence, limits.edge_error) == (0.1, None)
