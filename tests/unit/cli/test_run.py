"""What ``toolkit run`` says; what it does is in ``tests/unit/test_whole_job.py`` and ``tests/integration``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from toolkit.errors import ExportError
from toolkit.recipe import Recipe
from toolkit.run_folder import RunFolder
from toolkit.whole_job import STAGES, Done, Job, Outcome

Run = Callable[..., tuple[int, str, str]]


class FakeJob:
    """A job whose stages print nothing and end as they are told."""

    def __init__(self, ends: str | None = None, how: BaseException | None = None) -> None:
        self.ends = ends
        self.how = how
        self.kept: tuple[str, ...] = ()
        self.jobs: list[Job] = []

    def __call__(self, job: Job, *, reporter: Any, begins: Any, ended: Any) -> Outcome:
        del reporter
        self.jobs.append(job)
        run = job.resume or RunFolder(job.root / "mine")
        done = []
        for stage in STAGES:
            begins(stage)
            if stage == self.ends and self.how is not None:
                raise self.how
            record = (run.bench / "report.md",) if stage == "report" else stage
            done.append(Done(stage, run, record, stage in self.kept, passed=stage != self.ends))
            ended(done[-1])
            if not done[-1].passed:
                break
        return Outcome(run, tuple(done))


@pytest.fixture
def do(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Return a call of the command on a fake job."""
    (here / "artifacts").mkdir()

    def call(job: FakeJob, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("toolkit.whole_job.run_job", job)
        monkeypatch.setattr("toolkit.cli.export.print_bundle", lambda bundle, manifest: typer.echo(f"{manifest} shown"))
        monkeypatch.setattr("toolkit.cli.run.print_result", lambda run: typer.echo(f"finetune shown\nrun {run.path}"))
        for name in ("bench", "parity"):
            monkeypatch.setattr(f"toolkit.report.print_{name}", lambda record, console: typer.echo(f"{record} shown"))
        return run("run", "--recipe", "digits", *arguments)

    return call


def test_the_results_of_every_stage_and_one_last_line(do: Run) -> None:
    code, out, err = do(FakeJob())
    assert code == 0
    assert out.splitlines() == [
        "finetune shown",
        "run artifacts/mine",
        "export shown",
        "verify shown",
        "bench shown",
        "wrote artifacts/mine, artifacts/mine/bench/report.md; next: toolkit predict artifacts/mine IMAGES",
    ]
    said = ["loading PyTorch ...", *(f"{n} of 5: {stage}" for n, stage in enumerate(STAGES, 1))]
    said.insert(4, "from now on this works too: toolkit predict artifacts/mine IMAGES")
    assert err.splitlines() == said


def test_quiet_prints_results_only(do: Run) -> None:
    assert do(FakeJob(), "--quiet")[2] == ""


def test_what_is_kept_is_one_line(do: Run) -> None:
    job = FakeJob()
    job.kept = ("finetune", "export")
    out = do(job)[1].splitlines()
    assert out[:3] == ["finetune: there already", "export: there already", "verify shown"]


@pytest.mark.parametrize("stage", ["export", "verify", "bench"])
def test_a_gate_that_fails_is_named_with_how_to_go_on(do: Run, stage: str) -> None:
    code, out, _ = do(FakeJob(stage))
    assert code == 1
    last = out.splitlines()[-1]
    assert last.startswith(f"stopped at the gate of {stage}: ")
    assert last.endswith("; go on with 'toolkit run --run mine --resume'.")
    assert "next:" not in out


@pytest.mark.parametrize(
    ("stage", "there"),
    [
        ("export", "; done so far: finetune"),
        ("verify", "; done so far: finetune, export"),
        ("report", "; done so far: finetune, export, verify, bench"),
    ],
)
def test_ctrl_c_says_where_it_was_and_how_to_go_on(do: Run, stage: str, there: str) -> None:
    code, _, err = do(FakeJob(stage, KeyboardInterrupt()))
    assert code == 130
    assert err.endswith(
        f"\ntoolkit: stopped by Ctrl-C in {stage}{there}; go on with 'toolkit run --run mine --resume'.\n"
    )
    assert "Traceback" not in err


def test_ctrl_c_in_fine_tuning_names_the_run_that_has_begun(do: Run, here: Path) -> None:
    assert "in finetune; start it again." in do(FakeJob("finetune", KeyboardInterrupt()))[2]
    (here / "artifacts" / "begun").mkdir()
    (here / "artifacts" / "begun" / "recipe.toml").touch()
    err = do(FakeJob("finetune", KeyboardInterrupt("saved. Go on with 'toolkit finetune --resume --run begun'.")))[2]
    assert "in finetune; go on with 'toolkit run --run begun --resume'." in err
    assert "toolkit finetune" not in err


def test_bad_input_of_a_later_stage_says_what_is_done(do: Run) -> None:
    code, _, err = do(FakeJob("export", ExportError("no opset.")))
    assert code == 2
    assert err.splitlines()[-2:] == [
        "toolkit: no opset.",
        "toolkit: this was in export; done so far: finetune; go on with 'toolkit run --run mine --resume'.",
    ]
    assert do(FakeJob("finetune", ExportError("no data.")))[2].splitlines()[-1] == "toolkit: no data."


def test_one_device_for_all_and_the_flags_of_every_stage(do: Run) -> None:
    job = FakeJob()
    do(job, "--device", "cuda:1", "--threads", 3, "--batch-sizes", "1,4", "--rounds", 5, "--images", 9)
    do(job)
    given, usual = job.jobs
    assert given.bench is not None
    assert usual.bench is not None
    assert (given.recipe.train.device, given.device, given.bench.device) == ("cuda:1", "cuda:1", "cuda:1")
    assert (given.threads, given.bench.threads, given.images) == (3, 3, 9)
    assert (given.bench.batch_sizes, given.bench.rounds) == ((1, 4), 5)
    assert (usual.recipe.train.device, usual.device, usual.bench.device) == ("auto", "cpu", "auto")


def test_going_on_takes_the_runs_recipe_and_other_formats(run: Run, do: Run, here: Path) -> None:
    folder = RunFolder(here / "artifacts" / "mine")
    folder.path.mkdir()
    Recipe().override({"name": "folder", "seed": 7}).save(folder.recipe_file)
    job = FakeJob("verify")
    do(job)  # puts the fakes in place
    code, out, _ = run("run", "--resume", "--formats", "onnx", "--rounds", "3")
    assert code == 1
    asked = job.jobs[-1]
    assert asked.resume is not None
    assert asked.resume.path.name == "mine"
    assert (asked.recipe.seed, asked.recipe.export.formats) == (7, ("onnx",))
    assert out.splitlines()[-1].endswith("go on with 'toolkit run --run mine --resume --formats onnx --rounds 3'.")
