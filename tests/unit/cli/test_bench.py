"""What ``toolkit bench`` does around the measurement, which is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from toolkit.bench import BenchOptions
from toolkit.bundle.manifest import ParityVerdict
from toolkit.results import Tolerance

Run = Callable[..., tuple[int, str, str]]

VERDICT = ParityVerdict(
    passed=True,
    failures=(),
    device="cpu",
    test_images=1,
    max_absolute_logits=None,
    top1_agreement=None,
    tolerance=Tolerance(precision="float32", logits_absolute=1.0, logits_relative=1.0, probabilities_absolute=1.0),
    verified="",
)


class Stage:
    """A run whose artifacts have these verdicts; verifying gives each without one ``after``."""

    def __init__(self, *verdicts: ParityVerdict | None) -> None:
        self.verdicts = list(verdicts)
        self.after = VERDICT
        self.missing: list[str | None] = [None]
        self.verified = 0
        self.options: BenchOptions | None = None
        self.not_judged: dict[str, str] = {}
        self.folder = SimpleNamespace(path=Path("run"), bundle=Path("bundle"), bench_file=Path("bench.json"))
        self.folder.exported = lambda: self.folder.bundle
        self.folder.require_writable = lambda what: None
        # A finished run knows its folder; here one object is both.
        self.folder.folder = self.folder

    def bench_run(self, folder: Any, options: BenchOptions, *, reporter: Any) -> Any:
        assert folder is self.folder
        self.options = options
        return SimpleNamespace(rows=[SimpleNamespace(missing=reason) for reason in self.missing])

    def verify_run(self, folder: Any, *, reporter: Any, allow_code: bool) -> Any:
        self.verified += 1
        self.verdicts = [verdict or self.after for verdict in self.verdicts]
        return SimpleNamespace(not_judged=self.not_judged)

    def openable(self, bundle: Path, allow_code: bool) -> Any:
        return [SimpleNamespace(parity=verdict, file="model.onnx") for verdict in self.verdicts]


@pytest.fixture
def measure(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Return a call of the command on a stage."""

    def call(stage: Stage, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("toolkit.run_folder.find_run", lambda name, root: stage.folder)
        monkeypatch.setattr("toolkit.run_folder.FinishedRun.of", lambda run: run)
        monkeypatch.setattr("toolkit.data.of_run.require_images", lambda run: None)
        monkeypatch.setattr("toolkit.api.stages.read_manifest", lambda bundle: None)
        monkeypatch.setattr("toolkit.bench.stage.bench_run", stage.bench_run)
        monkeypatch.setattr("toolkit.api.stages._openable", stage.openable)
        monkeypatch.setattr("toolkit.verify.run.verify_run", stage.verify_run)
        monkeypatch.setattr("toolkit.report.print_bench", lambda report, console: typer.echo("the table"))
        monkeypatch.setattr("toolkit.report.print_parity", lambda report, console: typer.echo("a parity report"))
        monkeypatch.setattr("toolkit.report.write_report", lambda folder: [Path("bench.csv"), Path("report.md")])
        return run("bench", *arguments)

    return call


def test_what_was_verified_is_measured_and_the_files_are_named(measure: Run) -> None:
    stage = Stage(VERDICT)
    assert measure(stage) == (
        0,
        "the table\nwrote bench.json, bench.csv and report.md in .; next: toolkit predict run IMAGES\n",
        "loading PyTorch ...\n",
    )
    assert stage.verified == 0


def test_what_was_not_verified_is_verified_first(measure: Run) -> None:
    stage = Stage(VERDICT, None)
    code, out, err = measure(stage)
    assert (code, stage.verified) == (0, 1)
    assert out.splitlines()[:2] == ["a parity report", "the table"]
    assert "the bundle is not verified yet: verifying it first" in err


def test_an_artifact_that_failed_is_exit_code_1_and_measured_all_the_same(measure: Run) -> None:
    failed = VERDICT.model_copy(update={"passed": False})
    assert measure(Stage(VERDICT, failed))[:2] == (1, "the table\nwrote bench.json, bench.csv and report.md in .\n")
    fresh = Stage(None)
    fresh.after = failed
    assert measure(fresh)[0] == 1


def test_nothing_measured_is_exit_code_1_and_one_row_is_enough(measure: Run) -> None:
    stage = Stage(VERDICT)
    stage.missing = ["killed", "no GPU"]
    assert measure(stage)[0] == 1
    stage.missing = ["killed", None]
    assert measure(stage)[0] == 0


def test_flags_reach_the_stage(measure: Run) -> None:
    stage = Stage(VERDICT)
    flags = ("--batch-sizes", "8, 1,8", "--rounds", 3, "--threads", 2, "--device", "cpu", "--max-seconds", 9, "--quiet")
    measure(stage, *flags)
    assert stage.options == BenchOptions("cpu", 2, (8, 1), 3, max_seconds=9.0)
    measure(stage, "--sweep", "--no-end-to-end")
    assert stage.options == BenchOptions(sweep=True, end_to_end=False)


def test_without_flags_it_is_measured_as_from_python(measure: Run) -> None:
    stage = Stage(VERDICT)
    measure(stage)
    assert stage.options == BenchOptions()


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--rounds", 1001, "rounds is 1001: give 1000 or fewer."),
        ("--max-seconds", 0, "max_seconds is 0.0: give more than 0 and at most 86400 seconds."),
        ("--max-seconds", "inf", "max_seconds is inf: give more than 0 and at most 86400 seconds."),
    ],
)
def test_a_measurement_without_end_is_refused(measure: Run, flag: str, value: object, sentence: str) -> None:
    stage = Stage(VERDICT)
    code, out, err = measure(stage, flag, value)
    assert (code, out, stage.options) == (2, "", None)
    assert sentence in err


@pytest.mark.parametrize("sizes", ["100000", "0", "1,-2", "many", "1,,2", "1.5"])
def test_sizes_that_are_none(measure: Run, sizes: str) -> None:
    stage = Stage(VERDICT)
    code, out, err = measure(stage, "--batch-sizes", sizes)
    assert (code, out, stage.options) == (2, "", None)
    assert f"--batch-sizes {sizes!r} is not a list of sizes: give whole numbers of 1 to 65536" in err


def test_an_artifact_that_cannot_be_verified_here_is_not_measured(measure: Run) -> None:
    stage = Stage(None)
    stage.not_judged = {"model.onnx": "onnxruntime is not installed."}
    code, out, err = measure(stage)
    assert (code, out, stage.options) == (2, "a parity report\n", None)
    assert "onnxruntime is not installed." in err


def test_the_trackers_of_the_run_are_told_once_everything_is_written(
    measure: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    logged: list[tuple[Any, Any]] = []
    monkeypatch.setattr("toolkit.trackers.track", lambda run, asked, _: logged.append((run, list(asked))))
    stage = Stage(None)
    assert measure(stage, "--track", "tensorboard")[0] == 0
    assert logged == [(stage.folder, ["tensorboard"])]
    logged.clear()
    assert measure(Stage(VERDICT))[0] == 0
    assert [asked for _, asked in logged] == [[]]


def test_an_unknown_tracker_is_refused_before_anything_is_measured(measure: Run) -> None:
    stage = Stage(None)
    code, out, err = measure(stage, "--track", "wandb")
    assert (code, out, stage.verified, stage.options) == (2, "", 0, None)
    assert "there is no tracker 'wandb'" in err
