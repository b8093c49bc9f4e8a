"""Both sides in one sweep, over real workers with tiny models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import judge
from finished_runs import write_finished_run

from toolkit.bench import BenchOptions
from toolkit.bench.inputs import Inputs
from toolkit.bench.rows import ARTIFACT_FACTORY, Plan
from toolkit.bundle import Bundle
from toolkit.comparison import compare_figures, side_of_bundle, side_of_report, side_of_run, together
from toolkit.comparison.together import Ready, measure_together, speeds_of, sweep_both
from toolkit.errors import IntegrityError, RunError, ToolkitError

OPTIONS = BenchOptions("cpu", 1, (1, 3), rounds=8, min_seconds=0.0)


@pytest.fixture
def bundle(colour_bundle: Path) -> Path:
    """A bundle whose artifact has passed verification."""
    return judge(colour_bundle)


def test_two_bundles_are_measured_in_turns(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "other")
    a, b = measure_together(side_of_bundle(bundle), side_of_bundle(tmp_path / "other"), OPTIONS, starts=1)
    for figures in (a, b):
        (row,) = figures.rows
        assert (row.name, row.device, row.threads, row.missing, row.parity) == ("onnx", "cpu", 1, None, "passed")
        assert {size: len(speed.rounds) for size, speed in row.speeds.items()} == {1: 8, 3: 8}
        assert row.scored is None
        assert figures.test_images is None
    assert a.remarks == ("accuracy was not measured, and speed on the golden samples: only runs have test images",)
    found = compare_figures(a, b, interleaved=True)
    assert found.interleaved
    assert found.machine_differences == ()
    assert found.rows[0].same_file


def test_one_side_twice_is_no_mistake(bundle: Path) -> None:
    a, b = measure_together(side_of_bundle(bundle), side_of_bundle(bundle), OPTIONS, starts=1)
    assert a.rows[0].speeds.keys() == b.rows[0].speeds.keys() == {1, 3}


def test_what_cannot_be_measured_says_why(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(ToolkitError, match="is a report, which cannot be measured: give its run or a bundle"):
        measure_together(side_of_bundle(bundle), side_of_report(tmp_path / "bench.json"), OPTIONS)
    with pytest.raises(RunError, match="toolkit export"):
        measure_together(side_of_run(write_finished_run(tmp_path / "run")), side_of_bundle(bundle), OPTIONS)
    other = shutil.copytree(bundle, tmp_path / "other")
    judge(other, format="openvino", family="openvino")
    with pytest.raises(ToolkitError, match=r"no format in common \(A: onnx; B: openvino\)"):
        measure_together(side_of_bundle(bundle), side_of_bundle(other), OPTIONS)
    (bundle / "model.onnx").write_bytes(b"changed")
    with pytest.raises(IntegrityError):
        measure_together(side_of_bundle(bundle), side_of_bundle(bundle), OPTIONS)


def test_an_artifact_that_was_not_verified_is_not_measured(colour_bundle: Path) -> None:
    with pytest.raises(RunError, match="was not verified: run 'toolkit verify' first"):
        measure_together(side_of_bundle(colour_bundle), side_of_bundle(colour_bundle), OPTIONS)


def test_an_artifact_that_failed_verification_is_a_line_without_figures(bundle: Path, tmp_path: Path) -> None:
    other = judge(shutil.copytree(bundle, tmp_path / "other"), passed=False)
    found = compare_figures(
        *measure_together(side_of_bundle(bundle), side_of_bundle(other), OPTIONS, starts=1), interleaved=True
    )
    assert found.rows[0].missing == "B has no figures: failed verification: logits differ"
    assert (found.rows[0].parity_a, found.rows[0].parity_b) == ("passed", "failed")


def test_each_side_gets_its_own_images_and_input(bundle: Path, tmp_path: Path) -> None:
    """B takes images of another size: with those of A its worker would fail."""
    opened = Bundle.open(bundle)
    plan = Plan("onnx", "model.onnx", "a" * 64, 1, "cpu", ARTIFACT_FACTORY, {})
    artifact = opened.artifact("onnx")
    arguments = {
        "bundle": str(bundle),
        "artifact": artifact.model_dump(mode="json"),
        "files": {name: record.model_dump(mode="json") for name, record in opened.files.items()},
        "device": "cpu",
        "threads": 1,
    }
    sides = []
    for name, side in (("good", 8), ("bad", 4)):
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / "images.npy", np.zeros((2, side, side, 3), np.uint8))
        np.save(folder / "targets.npy", np.zeros(2, np.int64))
        inputs = Inputs(folder=folder, images=folder / "images.npy", targets=folder / "targets.npy", count=2)
        sides.append(Ready((replace(plan, arguments=arguments),), inputs, opened.manifest.input))
    good, bad = sides
    (first,), (second,) = sweep_both(good, bad, OPTIONS, starts=1)
    assert first.missing is None
    assert "invalid dimensions" in str(second.missing)
    assert (first.rounds, second.rounds) == ({}, {})  # half of a pair could mislead
    (first,), (second,) = sweep_both(good, good, OPTIONS, starts=2)
    assert (first.right_count, second.right_count) == (2, 2)  # black images are blue, the first class
    assert {size: speed.starts for size, speed in speeds_of(first).items()} == {1: (4, 4), 3: (4, 4)}


class Split:
    """Test images of a run, all black."""

    fingerprint = "f" * 64
    targets = np.array([0, 0, 1])

    def __len__(self) -> int:
        return 3

    def load(self, indices: np.ndarray, preprocessing: object) -> np.ndarray:
        return np.zeros((len(indices), 8, 8, 3), np.uint8)


def test_runs_of_the_same_images_are_scored(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_finished_run(tmp_path / "runs" / "tiny")
    shutil.copytree(bundle, run.bundle)
    monkeypatch.setattr(together, "load_test_split", lambda run, reporter: Split())
    a, b = measure_together(side_of_run(run), side_of_run(run), OPTIONS, starts=1)
    for figures in (a, b):
        assert figures.test_images == Split.fingerprint
        assert figures.remarks == ()
        assert figures.about.name == "tiny"  # of the run, not of the one that its bundle was exported from
        scored = figures.rows[0].scored
        assert scored is not None
        assert (scored.images, scored.accuracy) == (3, pytest.approx(2 / 3))


def test_runs_of_other_images_are_not_scored(tmp_path: Path) -> None:
    first, second = (write_finished_run(tmp_path / name) for name in ("one", "two"))
    record = second.record()
    splits = {name: split.model_copy(update={"fingerprint": "0" * 64}) for name, split in record.data.splits.items()}
    changed = record.model_copy(update={"data": record.data.model_copy(update={"splits": splits})})
    changed.save(second.record_file)
    assert together._test_images(side_of_run(first), side_of_run(second)) == (
        None,
        "the two runs have other test images",
    )
    found, why = together._test_images(side_of_run(first), side_of_run(first))
    assert found is not None
    assert why == ""
    second.record_file.unlink()
    record.model_copy(update={"labels": (*record.labels[:-1], "other")}).save(second.record_file)
    assert together._test_images(side_of_run(first), side_of_run(second)) == (None, "the two runs have other classes")


def test_every_start_measures_its_share_of_the_rounds_in_another_order() -> None:
    settings = [together._settings(BenchOptions(rounds=10), start, 3) for start in range(3)]
    assert {each.rounds for each in settings} == {4}
    assert [each.seed for each in settings] == [0, 1, 2]


def test_rounds_that_could_call_nothing_are_refused_before_anything_is_measured(bundle: Path) -> None:
    few = BenchOptions("cpu", 1, (1, 8, 32), rounds=6, min_seconds=0.0)
    with pytest.raises(ToolkitError, match=r"6 rounds are too few to be sure of 3 lines at once: give --rounds 7 or"):
        measure_together(side_of_bundle(bundle), side_of_bundle(bundle), few)


def cores_of_a_process() -> set[int]:
    """Return the cores that a process started now may use."""
    words = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    return set(map(int, subprocess.check_output(words, text=True).split()))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not choose cores")
def test_both_sides_run_on_the_same_cores_and_each_start_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    plan = Plan("onnx", "model.onnx", "a" * 64, 1, "cpu", ARTIFACT_FACTORY, {})
    chosen: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: chosen.append(set(cores)))
    for start in range(3):
        with together._on_the_same_cores((plan, plan), 2, start):
            pass
    assert chosen[::2] == [{2, 3}, {5, 2}, {3, 5}]
    assert chosen[1::2] == [{2, 3, 5}] * 3
    for plans, threads in (((plan,), 3), ((plan, replace(plan, device="cuda")), 1)):
        with together._on_the_same_cores(plans, threads, 0):
            assert len(chosen) == 6
    monkeypatch.undo()

    with together._on_the_same_cores((plan,), 1, 0):
        assert len(cores_of_a_process()) == 1
    assert cores_of_a_process() == before
