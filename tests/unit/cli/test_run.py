"""What ``toolkit run`` says; what it does is in ``tests/unit/test_whole_job.py`` and ``tests/integration``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from bench_rows import missing
from full_runs import timing
from pointed_at import write_whole_run

from toolkit import provenance, whole_job
from toolkit.bundle import read_manifest
from toolkit.bundle.manifest import ParityVerdict
from toolkit.bundle.writer import write_manifest
from toolkit.cli.run import command
from toolkit.compare.tolerances import TOLERANCES
from toolkit.errors import ExportError
from toolkit.recipe import Recipe
from toolkit.results import BenchReport, ParityReport, QuantizationSearch
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
        monkeypatch.setattr("toolkit.cli.export.print_artifacts", lambda manifest: typer.echo(f"{manifest} shown"))
        monkeypatch.setattr("toolkit.cli.run.print_result", lambda run: typer.echo("finetune shown"))
        for name in ("bench", "parity"):
            monkeypatch.setattr(f"toolkit.report.print_{name}", lambda record, console: typer.echo(f"{record} shown"))
        return run("run", "--recipe", "digits", *arguments)

    return call


def test_the_results_of_every_stage_and_one_last_line(do: Run) -> None:
    code, out, err = do(FakeJob())
    assert code == 0
    assert out.splitlines() == [
        "finetune shown",
        "export shown",
        "verify shown",
        "bench shown",
        "wrote artifacts/mine, artifacts/mine/bench/report.md; next: toolkit predict artifacts/mine IMAGES",
    ]
    said = ["loading PyTorch ...", *(f"{n} of 5: {stage}" for n, stage in enumerate(STAGES, 1))]
    said.insert(2, "the run is artifacts/mine")
    said.insert(5, "from now on this works too: toolkit predict artifacts/mine IMAGES")
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


REFUSED, KEPT = "refused", "kept"
"""What another value of an option does when a run goes on; else it is the stage that is made again."""
WENT_ON = {
    "run": ("--run tiny", KEPT),
    "resume": ("--resume", KEPT),
    "artifacts": ("--artifacts artifacts", KEPT),
    "quiet": ("--quiet", KEPT),
    "track": ("--track tensorboard", KEPT),
    "recipe": ("--recipe digits", REFUSED),
    "time_budget": ("--time-budget 3h", REFUSED),
    "images": ("--images 15", "verify"),
    "batch_sizes": ("--batch-sizes 1,4", "bench"),
    "rounds": ("--rounds 6", "bench"),
    "model__flip_test": ("--flip-test", REFUSED),
    "export__formats": ("--formats pt2", "export"),
    "export__input": ("--input tensor", "export"),
    "export__profile": ("--profile newest", "export"),
    "export__opset": ("--opset 22", "export"),
    "export__ir": ("--ir 13", "export"),
    "export__max_drop": ("--max-drop 2", "export"),
    "seed": ("--seed 3", REFUSED),
    "data__source": ("--data cifar10", REFUSED),
    "data__root": ("--data-root elsewhere", REFUSED),
    "data__validation_fraction": ("--validation-fraction 0.3", REFUSED),
    "data__test_fraction": ("--test-fraction 0.3", REFUSED),
    "data__train_limit": ("--train-limit 70", REFUSED),
    "data__test_limit": ("--test-limit 70", REFUSED),
    "data__layout": ("--layout classes", REFUSED),
    "data__max_pixels": ("--max-pixels 9999", REFUSED),
    "data__skip_unreadable": ("--skip-unreadable", REFUSED),
    "data__check_duplicates": ("--check-duplicates", REFUSED),
    "data__check_labels": ("--no-check-labels", REFUSED),
    "data__resize": ("--resize crop", REFUSED),
    "data__interpolation": ("--interpolation lanczos", REFUSED),
    "data__decode": ("--decode full", REFUSED),
    "data__sixteen_bit": ("--sixteen-bit scale", REFUSED),
    "backbone__name": ("--backbone resnet18", REFUSED),
    "backbone__weights": ("--weights none", REFUSED),
    "backbone__image_size": ("--image-size 64", REFUSED),
    "augment__flip": ("--augment-flip", REFUSED),
    "augment__shift": ("--augment-shift 0.1", REFUSED),
    "augment__mixup": ("--augment-mixup 0.1", REFUSED),
    "augment__cutmix": ("--augment-cutmix 0.1", REFUSED),
    "augment__crop": ("--augment-crop 0.5", REFUSED),
    "augment__randaugment": ("--randaugment 2", REFUSED),
    "augment__magnitude": ("--randaugment-magnitude 7", REFUSED),
    "augment__erase": ("--augment-erase 0.2", REFUSED),
    "augment__erase_area": ("--augment-erase-area 0.2", REFUSED),
    "cache__use": ("--no-cache", REFUSED),
    "cache__views": ("--views 3", REFUSED),
    "cache__dtype": ("--cache-dtype float32", REFUSED),
    "cache__refresh": ("--refresh-views 0.5", REFUSED),
    "train__loss": ("--loss mse", REFUSED),
    "train__label_smoothing": ("--label-smoothing 0.1", REFUSED),
    "train__class_weights": ("--class-weights balanced", REFUSED),
    "train__keep": ("--keep last", REFUSED),
    "train__batch_size": ("--batch-size 5", REFUSED),
    "train__precision": ("--precision bfloat16", REFUSED),
    "train__checkpoint_minutes": ("--checkpoint-minutes 7", REFUSED),
    "train__train_bn": ("--train-bn", REFUSED),
    "train__bn_reestimate": ("--train-bn --bn-reestimate 4", REFUSED),
    "train__device": ("--device cpu", REFUSED),
    "train__threads": ("--threads 1", REFUSED),
    "train__ema": ("--ema 0.9", REFUSED),
    "train__average_last": ("--average-last 2", REFUSED),
    "train__patience": ("--patience 2", REFUSED),
    "train__drop_path": ("--drop-path 0.1", REFUSED),
    "train__dropout": ("--dropout 0.2", REFUSED),
    "train__sam_rho": ("--sam-rho 0.05", REFUSED),
    "distill__teacher": ("--teacher another", REFUSED),
    "distill__weight": ("--distill-weight 0.7", REFUSED),
    "distill__temperature": ("--distill-temperature 4", REFUSED),
    "stage1__solver": ("--stage1-solver lbfgs", REFUSED),
    **{
        f"stage{number}__{field}": (f"--stage{number}-{field.replace('_', '-')} {value}", REFUSED)
        for number in (1, 2, 3)
        for field, value in (
            ("epochs", 77),
            ("optimizer", "adam"),
            ("head_lr", 0.5),
            ("backbone_lr", 0.5),
            ("layer_decay", 0.5),
            ("momentum", 0.1),
            ("weight_decay", 0.5),
            ("schedule", "cosine"),
            ("unfreeze", 2),
        )
    },
    "stage3__epochs": ("--stage3-epochs 77 --stage3-unfreeze 9", REFUSED),
}
"""Every parameter of the command: another value for it than the run was made with, and what that does."""
AS_BEFORE = ("run", "--resume", "--images", "10", "--rounds", "5", "--batch-sizes", "1")


@pytest.fixture
def made(here: Path, colour_bundle: Path) -> RunFolder:
    """A run with verdicts on 10 of 20 test images and figures of 5 rounds that have not settled."""
    folder: RunFolder = write_whole_run(here / "artifacts", colour_bundle)
    changes = {"export.formats": "onnx", "train.threads": 2, "train.device": "auto"}
    folder.recipe().override(changes).save(folder.recipe_file)
    search = QuantizationSearch(
        activations="uint8",
        weight_bits=8,
        processor="a processor",
        calibration_images=1,
        validation_images=1,
        float32_accuracy=1.0,
        float32_images_per_second=1.0,
        timed_batch_size=1,
        timed_threads=1,
        max_drop_points=0.5,
        candidates=(),
        seconds=1.0,
    )
    verdict = ParityVerdict(
        passed=True,
        failures=(),
        device="cpu",
        test_images=10,
        max_absolute_logits=None,
        top1_agreement=None,
        tolerance=TOLERANCES["float32"],
        verified="2030-01-02T03:04:05+00:00",
    )
    manifest = read_manifest(folder.bundle)
    (artifact,) = manifest.artifacts
    artifact = artifact.model_copy(update={"quantization": search, "parity": verdict, "opset": 18, "ir_version": 8})
    write_manifest(folder.bundle, manifest.model_copy(update={"artifacts": (artifact,)}))
    row = missing("onnx", "cpu", "").model_copy(
        update={
            "sha256": artifact.sha256,
            "missing": None,
            "timings": (timing(1, 9.0, 0).model_copy(update={"settled": False}),),
        }
    )
    report = BenchReport(run="tiny", model="m", data="d", rows=(row,), seconds=1.0, provenance=provenance.collect())
    report.model_copy(update={"most_rounds": 5}).save(folder.bench_file)
    return folder


@pytest.fixture
def again(do: Callable[..., Any], run: Run, made: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a call of the command that makes no stage: it returns exit code, errors and the stages that it would."""
    real, stages = whole_job.run_job, list[str]()
    do(FakeJob("verify"))  # puts fakes in the place of what prints
    monkeypatch.setattr(whole_job, "run_job", real)

    def fake(stage: str, result: Callable[[], Any]) -> Callable[..., Any]:
        def make(*_: Any, **__: Any) -> Any:
            stages.append(stage)
            return result()

        return make

    def benchmark() -> BenchReport:
        return BenchReport.load(made.bench_file, "toolkit bench")

    monkeypatch.setattr(whole_job, "train", fake("finetune", lambda: made))
    monkeypatch.setattr("toolkit.export.export_run", fake("export", lambda: read_manifest(made.bundle)))
    monkeypatch.setattr(
        "toolkit.verify.run.verify_run",
        fake("verify", lambda: ParityReport.load(made.parity_file, "toolkit verify")),
    )
    monkeypatch.setattr("toolkit.bench.bench_run", fake("bench", benchmark))
    monkeypatch.setattr(whole_job, "track", lambda *_, **__: None)
    monkeypatch.setattr(whole_job, "write_report", lambda run: [run.report_file])
    monkeypatch.setattr(whole_job, "write_pictures", lambda run: [])
    monkeypatch.setattr("toolkit.bench.rows._cuda_usable", lambda: False)

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        stages.clear()
        code, _, err = run(*AS_BEFORE, *arguments)
        return code, err, list(stages)

    return call


def test_every_option_is_decided_on() -> None:
    assert set(WENT_ON) == set(inspect.signature(command).parameters)


def test_another_value_of_every_option_is_refused_or_makes_its_stage_again_or_changes_nothing(
    again: Callable[..., Any],
) -> None:
    for parameter, (flags, what) in WENT_ON.items():
        code, err, stages = again(*flags.split())
        found = stages[0] if stages else REFUSED if code == 2 else KEPT
        assert (parameter, code, found) == (parameter, 2 if what == REFUSED else 0, what), err
        if what == REFUSED:
            assert "--resume goes on with a run's own recipe" in err
            assert flags.split()[0].replace("--no-", "--") in err


def test_what_was_given_when_it_began_may_be_given_again(again: Callable[..., Any], made: RunFolder) -> None:
    for flags in (
        "--train-limit 30",
        "--threads 2 --backbone torchvision:squeezenet1_1",
        "--formats onnx",
        "--images 5",
        "--stage1-solver auto",
    ):
        assert again(*flags.split())[::2] == (0, []), flags
    assert again("--seed", "3", "--train-limit", "30")[1] == (
        "toolkit: --resume goes on with a run's own recipe, and --seed was 0: leave --seed out, or start a new run. "
        "What is made of the training may change: --formats and what else is of the export.\n"
    )
    file = made.path.parent.parent / "own.toml"
    file.write_text('name = "tiny"\n[data]\ntrain_limit = 30\n[export]\nformats = ["pt2"]\n')
    assert again("--recipe", "own.toml")[::2] == (0, ["export"])
    file.write_text('name = "tiny"\n[data]\ntrain_limit = 31\n')
    assert again("--recipe", "own.toml")[0] == 2


def test_more_than_is_asked_is_enough(again: Callable[..., Any], made: RunFolder) -> None:
    for flags in ("--images 3", "--rounds 2"):
        assert again(*flags.split())[::2] == (0, []), flags
    report = BenchReport.load(made.bench_file, "toolkit bench")
    settled = report.rows[0].timings[0].model_copy(update={"settled": True})
    row = report.rows[0].model_copy(update={"timings": (settled,)})
    report.model_copy(update={"rows": (row,)}).save(made.bench_file)
    assert again("--rounds", "900")[::2] == (0, [])


def test_a_verdict_under_limits_that_somebody_gave_is_none(again: Callable[..., Any], made: RunFolder) -> None:
    manifest = read_manifest(made.bundle)
    (artifact,) = manifest.artifacts
    assert artifact.parity is not None
    parity = artifact.parity.model_copy(update={"limits": ("logits_absolute is 9, as asked.",)})
    write_manifest(
        made.bundle,
        manifest.model_copy(update={"artifacts": (artifact.model_copy(update={"parity": parity}),)}),
    )
    assert again()[::2] == (0, ["verify"])


def test_figures_that_are_kept_stand_in_a_bundle_that_was_made_anew(again: Callable[..., Any], made: RunFolder) -> None:
    again()
    (summary,) = read_manifest(made.bundle).artifacts[0].benchmarks
    assert summary.images_per_second == 9.0
