from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from finished_runs import write_finished_run
from once import made_once

import toolkit
from toolkit.api.run import IMAGES, Run, Runs, open_run, runs
from toolkit.api.shown import ShownBench, ShownParity
from toolkit.bench.options import Asked as BenchAsked
from toolkit.bench.options import BenchOptions
from toolkit.errors import RecipeError, RunError, ToolkitError
from toolkit.progress import Silent
from toolkit.results import BenchReport, ParityReport
from toolkit.run_folder import FinishedRun, RunFolder
from toolkit.verify.inputs import DEFAULT_IMAGES


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        write_finished_run(folder / "mine")

    return made_once(tmp_path_factory, "as-objects", make)


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run in artifacts/ of the current folder."""
    shutil.copytree(made, tmp_path / "artifacts")
    monkeypatch.chdir(tmp_path)
    RunFolder(Path("artifacts", "mine")).make_latest()
    return Run("artifacts/mine")


@pytest.fixture
def exported(run: Run, colour_bundle: Path) -> Run:
    shutil.copytree(colour_bundle, run.folder.bundle)
    return run


def test_what_a_run_says_is_what_its_files_say(run: Run) -> None:
    record, evaluation = run.folder.record(), run.folder.evaluation()
    assert (run.name, run.path) == ("mine", Path("artifacts/mine"))
    assert (run.labels, run.recipe.data.source) == (record.labels, "digits")
    assert (run.accuracy, run.accuracy_interval) == (evaluation.top1, evaluation.top1_interval)
    assert run.evaluation == evaluation
    assert (run.parity, run.benchmark, run.review) == (None, None, None)
    assert run.summary.state == "finished"


def test_a_run_is_written_in_a_few_lines(exported: Run) -> None:
    first, accuracy, artifacts = repr(exported).splitlines()
    assert first == "Run('artifacts/mine'): torchvision:squeezenet1_1 on digits"
    assert accuracy.startswith(f"  accuracy {exported.accuracy:.1%} [")
    assert accuracy.endswith("] on 20 test images")
    assert artifacts.startswith("  artifacts: onnx (")
    assert artifacts.endswith("MB, not verified)")
    assert "mine" in exported._repr_html_()


def test_what_comes_next_is_said(run: Run) -> None:
    assert repr(run).splitlines()[-1] == "  artifacts: none yet: run.export()"
    run.folder.record_file.unlink()
    assert repr(run).splitlines()[-1] == "  not finished (or still running): run.resume() goes on with it"


def test_a_damaged_run_is_still_shown(run: Run) -> None:
    run.folder.record_file.write_text("{")
    assert "damaged: artifacts/mine/run.json is not what" in repr(run)
    with pytest.raises(RunError, match=r"run\.json"):
        _ = run.labels


def test_of_an_unfinished_run_there_is_no_accuracy_yet(run: Run) -> None:
    run.folder.record_file.unlink()
    with pytest.raises(RunError, match="was interrupted before fine-tuning had finished"):
        _ = run.accuracy


def test_the_history_is_by_column(run: Run) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        _ = run.history
    run.folder.history_file.write_text(
        "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy\n1,1,2.0,0.3,1.9,0.4\n"
    )
    assert vars(run.history)["validation_accuracy"] == [0.4]


def test_reports_that_are_there_are_read(run: Run, parity: ParityReport, bench: BenchReport) -> None:
    parity.save(run.folder.parity_file)
    bench.save(run.folder.bench_file)
    assert isinstance(run.parity, ShownParity)
    assert isinstance(run.benchmark, ShownBench)
    assert run.parity.passed is parity.passed
    assert run.benchmark.rows == bench.rows


def test_runs_are_the_same_by_their_folder(run: Run) -> None:
    assert run == Run(run.path.resolve())
    assert hash(run) == hash(Run(run.path.resolve()))
    assert run != Run("artifacts/other")
    assert run != "artifacts/mine"


def test_a_run_stays_where_it_is_when_the_working_directory_changes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run of the same name must not take its place."""
    listed, accuracy = runs(), run.accuracy
    shutil.copytree(run.path, tmp_path / "elsewhere" / "artifacts" / "mine")
    (tmp_path / "elsewhere" / "artifacts" / "mine" / "evaluation.json").write_text("{")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.path == tmp_path / "artifacts" / "mine"
    assert run.accuracy == listed[0].accuracy == listed["mine"].accuracy == listed[:1][0].accuracy == accuracy
    monkeypatch.chdir(tmp_path)
    assert repr(run).startswith("Run('artifacts/mine')")


def test_a_run_opened_by_its_link_stays_itself(run: Run) -> None:
    latest = Run("artifacts/latest")
    shutil.copytree(run.path, "artifacts/newer")
    RunFolder(Path("artifacts/newer")).make_latest()
    assert (latest, latest.name) == (run, "mine")
    assert Run("artifacts/latest").name == "newer"


def test_a_run_can_be_pickled(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps((run, runs()))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again, listed = pickle.loads(content)
    assert again == listed[0] == run
    assert again.accuracy == run.accuracy


def test_a_run_that_was_deleted_says_so(exported: Run) -> None:
    shutil.rmtree(exported.path)
    gone = "the run was moved or deleted, or never was"
    assert repr(exported) == f"Run('artifacts/mine'): there is no such folder ({gone})"
    assert gone in exported._repr_html_()
    stages: list[Callable[[], object]] = [
        exported.resume,
        exported.export,
        exported.verify,
        exported.bench,
        exported.report,
        exported.predictor,
    ]
    asked = ("recipe", "record", "labels", "evaluation", "accuracy", "history", "review", "bundle", "parity")
    for ask in [*stages, *(partial(getattr, exported, name) for name in (*asked, "benchmark"))]:
        with pytest.raises(RunError, match="there is no folder artifacts/mine: the run was moved or deleted"):
            ask()
    assert not exported.path.exists()


@pytest.mark.parametrize("wrong", [5, None, b"mine"])
def test_what_is_no_path_of_a_run_is_a_sentence(run: Run, wrong: Any) -> None:
    for ask in (Run, runs, lambda value: open_run("mine", root=value)):
        with pytest.raises(ToolkitError, match="give a path"):
            ask(wrong)
    with pytest.raises(ToolkitError, match="run cannot be ''"):
        open_run("")


class TestStages:
    def test_an_export_takes_the_fields_of_the_recipe(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []
        monkeypatch.setattr("toolkit.export.export_run", lambda run, **how: asked.append((run, how)))
        assert run.export(["onnx"], opset=18, progress=False) is run
        ((finished, how),) = asked
        assert finished == FinishedRun.of(run.folder)
        assert (how["options"].formats, how["options"].opset, how["options"].input) == (("onnx",), 18, "images")
        assert isinstance(how["reporter"], Silent)

    def test_what_an_export_cannot_take_is_refused(self, run: Run) -> None:
        with pytest.raises(RecipeError, match=r"opset: .*30 \(given: 99\)"):
            run.export("onnx", opset=99)
        with pytest.raises(RecipeError) as refused:
            run.export("onnx", opsets=18, seed=1)  # type: ignore[call-arg]  # the mistake that is refused
        assert str(refused.value).splitlines() == [
            "2 fields of the recipe from the call of Run.export cannot be used:",
            "  opsets: no such field (did you mean opset?)",
            "  seed: no such field",
            "Fields are formats, input, ir, max_drop, opset, profile.",
        ]

    @pytest.mark.parametrize(
        "how",
        [
            {"images": "x"},
            {"images": 0},
            {"images": 1.5},
            {"images": True},
            {"threads": 0},
            {"threads": "2"},
            {"allow_code": "no"},
            {"bisect": 1},
            {"image": 5},
            {"progress": 5},
        ],
    )
    def test_what_verify_cannot_take_is_said_before_anything_is_computed(
        self, exported: Run, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
    ) -> None:
        monkeypatch.setattr("toolkit.verify.run.verify_run", lambda *_, **__: pytest.fail("it was begun"))
        with pytest.raises(ToolkitError, match="give"):
            exported.verify(**{"progress": False, **how})

    @pytest.mark.parametrize(
        "how",
        [
            {"batch_sizes": 5},
            {"batch_sizes": "1,8"},
            {"batch_sizes": [True]},
            {"rounds": "x"},
            {"max_seconds": "x"},
            {"min_seconds": None},
            {"precision": "x"},
            {"sweep": "no"},
            {"allow_code": "no"},
            {"batch_size": 5},
            {"progress": 5},
        ],
    )
    def test_what_bench_cannot_take_is_said_before_anything_is_measured(
        self, exported: Run, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
    ) -> None:
        monkeypatch.setattr("toolkit.verify.run.verify_run", lambda *_, **__: pytest.fail("it was begun"))
        with pytest.raises(ToolkitError, match="give"):
            exported.bench(**{"progress": False, **how})

    def test_formats_are_names(self, run: Run) -> None:
        wrong: Any
        for wrong in (5, [1]):
            with pytest.raises(ToolkitError, match="formats cannot be"):
                run.export(wrong, progress=False)

    def test_a_failed_gate_is_a_value(
        self, exported: Run, parity: ParityReport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []
        monkeypatch.setattr("toolkit.verify.run.verify_run", lambda run, **how: asked.append(how) or parity)
        logged: list[Any] = []
        monkeypatch.setattr("toolkit.trackers.track", lambda run, **_: logged.append(run.path))
        report = exported.verify(images=7, threads=1, progress=False)
        assert logged == [exported.path]
        assert (report.passed, isinstance(report, ShownParity)) == (False, True)
        ((how),) = asked
        assert (how["images"], how["threads"]) == (7, 1)
        assert isinstance(how["reporter"], Silent)

    def test_what_is_measured_is_verified_first_and_reported(
        self, exported: Run, bench: BenchReport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[Any] = []

        def measured(run: FinishedRun, options: BenchOptions, **how: Any) -> BenchReport:
            order.append(options)
            bench.save(run.folder.bench_file)
            return bench

        monkeypatch.setattr("toolkit.verify.run.verify_run", lambda *_, **__: order.append("verified"))
        monkeypatch.setattr("toolkit.bench.bench_run", measured)
        logged: list[Any] = []
        monkeypatch.setattr(
            "toolkit.trackers.track", lambda run, **_: logged.append((run.bench / "report.md").exists())
        )
        report = exported.bench(rounds=3, batch_sizes=(1,), progress=False)
        assert logged == [True]
        assert isinstance(report, ShownBench)
        assert order == ["verified", BenchOptions(rounds=3, batch_sizes=(1,))]
        assert (exported.folder.bench / "report.md").exists()

    def test_a_report_needs_measurements(self, exported: Run) -> None:
        with pytest.raises(RunError, match="was not measured yet"):
            exported.report()

    def test_a_predictor_is_that_of_the_bundle(self, exported: Run) -> None:
        predictor = exported.predictor(threads=1)
        assert predictor.labels == ("blue", "green", "red")
        assert exported.bundle.manifest.labels == predictor.labels

    def test_without_a_bundle_the_next_step_is_said(self, run: Run) -> None:
        for ask in (run.predictor, run.verify, run.bench, lambda: run.bundle):
            with pytest.raises(RunError, match="has no bundle yet"):
                ask()

    def test_a_finished_run_is_not_resumed(self, run: Run) -> None:
        assert run.resume() is run

    def test_as_many_images_as_the_stage_draws(self) -> None:
        assert IMAGES == DEFAULT_IMAGES

    def test_the_options_of_a_benchmark_are_typed(self) -> None:
        assert get_type_hints(BenchAsked) == get_type_hints(BenchOptions)


class TestRuns:
    def test_by_place_and_by_name(self, run: Run) -> None:
        listed = runs()
        assert len(listed) == 1
        assert listed[0] == listed["mine"] == run
        assert list(listed) == [run]
        assert isinstance(listed[:1], Runs)
        with pytest.raises(KeyError, match="there is no run 'other' in artifacts"):
            listed["other"]
        with pytest.raises(IndexError):
            listed[1]
        assert listed[np.int64(0)] == run  # type: ignore[call-overload]  # an index all the same
        with pytest.raises(TypeError):
            listed[0.5]  # type: ignore[call-overload]  # the mistake that is refused

    def test_they_are_a_table(self, run: Run) -> None:
        (run.path / "review.json").touch()
        assert "torchvision:squeezenet1_1" in repr(runs())
        assert "torchvision:squeezenet1_1" in runs()._repr_html_()

    def test_none(self, tmp_path: Path) -> None:
        assert repr(runs(tmp_path / "none")) == f"no runs in {tmp_path / 'none'}"
        assert list(runs(tmp_path / "none")) == []

    def test_a_name_in_a_table_is_no_markup(self, run: Run) -> None:
        run.path.rename(run.path.with_name("<b>"))
        assert "&lt;b&gt;" in runs()._repr_html_()
        assert runs()[0].labels


class TestOpening:
    def test_the_newest_or_by_name_or_by_folder(self, run: Run) -> None:
        for said in (None, "mine", "artifacts/mine", Path("artifacts/mine"), run.path.resolve(), "latest"):
            assert open_run(said) == run
        assert open_run("mine", root=run.path.parent.resolve()) == run

    def test_what_is_none(self, run: Run) -> None:
        Path("artifacts", "notes").mkdir()
        with pytest.raises(RunError, match="is no run"):
            open_run("notes")
        with pytest.raises(RunError, match="there is no run 'other' in artifacts; runs there: mine"):
            open_run("other")


def test_a_home_is_written_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run.path.resolve().parents[1]))
    assert list(runs("~/artifacts")) == [run]
    assert open_run("mine", root="~/artifacts") == open_run("~/artifacts/mine") == Run("~/artifacts/mine") == run


def test_the_package_has_them() -> None:
    assert (toolkit.Run, toolkit.Runs, toolkit.runs, toolkit.open_run) == (Run, Runs, runs, open_run)
