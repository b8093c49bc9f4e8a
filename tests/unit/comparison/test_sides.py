"""What a report, a run and a bundle say of themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench_reports import noisy_report, report, row, timing
from bundles import judge

from toolkit.bundle import read_manifest
from toolkit.bundle.recording import record_benchmarks
from toolkit.comparison import one_measurement, side_of_bundle, side_of_report, side_of_run
from toolkit.errors import RunError
from toolkit.results import BenchReport, Load, MachineState
from toolkit.run_folder import RunFolder

RATES = [100.0, 101.0, 102.0]


@pytest.fixture
def digest(colour_bundle: Path) -> str:
    """Of the one artifact of the bundle."""
    return read_manifest(colour_bundle).artifacts[0].sha256


def measured(colour_bundle: Path, digest: str, **changes: object) -> tuple[RunFolder, BenchReport]:
    """The bundle in the folder of a run that has a report."""
    run = RunFolder(colour_bundle.parent)
    run.record_file.write_text("{}")
    made = report([row("onnx", [timing(1, RATES), timing(32, RATES)], sha256=digest)], **changes)
    made.save(run.bench_file)
    return run, made


def test_a_run_a_report_and_a_bundle_at_home_have_the_same_figures(colour_bundle: Path, digest: str) -> None:
    run, made = measured(colour_bundle, digest)
    sides = (side_of_run(run), side_of_report(run.bench_file), side_of_bundle(colour_bundle))
    assert [side.kind for side in sides] == ["run", "report", "bundle"]
    for side in sides:
        figures = side.figures()
        (only,) = figures.rows
        assert figures.about.name == "made"
        assert only.speeds[32].rounds == tuple(RATES)
        assert only.parity == "not verified"
        assert figures.test_images == made.test_fingerprint
        assert only.scored is not None
        assert only.scored.right is not None
        assert (only.scored.images, int(only.scored.right.sum())) == (100, 95)


@pytest.mark.parametrize(("passed", "said"), [(True, "passed"), (False, "failed")])
def test_the_verdict_is_that_of_the_very_file(colour_bundle: Path, digest: str, passed: bool, said: str) -> None:
    run, _ = measured(colour_bundle, digest)
    judge(colour_bundle, passed)
    assert side_of_run(run).figures().rows[0].parity == said
    report([row("onnx", [timing(1, RATES)], sha256="b" * 64)]).save(run.bench_file)
    assert side_of_run(run).figures().rows[0].parity is None


def test_a_report_elsewhere_knows_no_verdict(tmp_path: Path) -> None:
    noisy_report(1).save(tmp_path / "bench.json")
    side = side_of_report(tmp_path / "bench.json")
    assert (side.run, side.bundle) == (None, None)
    assert {only.parity for only in side.figures().rows} == {None}


def test_a_bundle_that_travels_says_what_its_manifest_holds(colour_bundle: Path, digest: str, tmp_path: Path) -> None:
    _, made = measured(colour_bundle, digest)
    record_benchmarks(colour_bundle, made)
    shutil.copytree(colour_bundle, tmp_path / "elsewhere" / "bundle")
    figures = side_of_bundle(tmp_path / "elsewhere" / "bundle").figures()
    (only,) = figures.rows
    assert (only.name, only.device, only.threads, only.scored) == ("onnx", "cpu", 2, None)
    assert only.speeds.keys() == {1}  # as fast as 32; only the fastest has an interval
    assert only.speeds[1].rounds == ()
    assert (figures.about.processor, figures.about.cores, figures.about.gpu) == ("Example CPU", None, None)
    assert figures.about.model == "test:colour, 8 x 8, 3 classes"
    assert "one batch size of each artifact" in figures.remarks[0]


def test_a_bundle_that_was_exported_again_has_not_the_report_of_the_old_one(colour_bundle: Path) -> None:
    measured(colour_bundle, "b" * 64)
    with pytest.raises(RunError, match="was never measured: measure both sides now with --measure"):
        side_of_bundle(colour_bundle).figures()


def test_what_was_never_measured_says_what_to_do(colour_bundle: Path) -> None:
    run = RunFolder(colour_bundle.parent)
    for side in (side_of_run(run), side_of_bundle(colour_bundle)):
        with pytest.raises(RunError, match="run 'toolkit bench' on the run first"):
            side.figures()


def test_of_a_run_that_is_not_exported_or_not_finished_an_earlier_command_comes_next(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "mine")
    run.path.mkdir()
    run.recipe_file.write_text("")
    with pytest.raises(RunError, match="toolkit finetune --resume"):
        side_of_run(run).figures()
    run.record_file.write_text("{}")
    with pytest.raises(RunError, match="run 'toolkit export"):
        side_of_run(run).figures()


def test_a_report_that_counts_other_images_than_it_has_is_refused(tmp_path: Path) -> None:
    report([row("onnx", [timing(1, RATES)], correct="ff")]).save(tmp_path / "bench.json")
    with pytest.raises(RunError, match="does not say of each test image of onnx"):
        side_of_report(tmp_path / "bench.json").figures()


def test_what_a_machine_was_doing_is_passed_on(tmp_path: Path) -> None:
    idle = Load(load_average=0.0, busy_share=0.0, steal_share=0.0, frequency_mhz=None)
    busy = MachineState(before=idle, during=idle, remarks=("the machine was busy",))
    noisy_report(1, machine=busy).save(tmp_path / "bench.json")
    assert side_of_report(tmp_path / "bench.json").figures().remarks == ("the machine was busy",)


@pytest.mark.parametrize("accuracy", [5.0, -1.0, float("nan"), float("inf")])
def test_an_accuracy_that_is_none_is_refused(tmp_path: Path, accuracy: float) -> None:
    report([row("onnx", [timing(1, RATES)], test_accuracy=accuracy, correct=None)]).save(tmp_path / "bench.json")
    with pytest.raises(RunError, match="which is no share of its test images"):
        side_of_report(tmp_path / "bench.json").figures()


def test_a_bundle_and_its_run_hold_one_measurement(colour_bundle: Path, digest: str) -> None:
    run, _ = measured(colour_bundle, digest)
    run_figures, bundle_figures = side_of_run(run).figures(), side_of_bundle(colour_bundle).figures()
    assert one_measurement(run_figures, bundle_figures)
    noisy_report(1).save(run.bench_file)
    assert not one_measurement(run_figures, side_of_run(run).figures())
