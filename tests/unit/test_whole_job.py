from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench_rows import missing
from pointed_at import write_whole_run

from toolkit import provenance, whole_job
from toolkit.bench import BenchOptions
from toolkit.bundle import read_manifest
from toolkit.bundle.manifest import ParityVerdict
from toolkit.bundle.writer import write_manifest
from toolkit.errors import RunError
from toolkit.progress import Silent
from toolkit.recipe import ExportRecipe, Recipe
from toolkit.results import BenchReport, BenchRow, ParityReport, Tolerance
from toolkit.run_folder import FinishedRun, RunFolder
from toolkit.whole_job import STAGES, Done, Job, exported_as, figures_of, run_job, run_to_resume, verdicts_of


@pytest.fixture
def tiny(tmp_path: Path, colour_bundle: Path) -> RunFolder:
    return write_whole_run(tmp_path / "artifacts", colour_bundle)


def stage(name: str, calls: list[str], *, passed: bool = True, kept: bool = False) -> Callable[..., Done]:
    def do(job: Job, run: RunFolder | None, reporter: Any) -> Done:
        del job, reporter
        calls.append(name)
        return Done(name, run or RunFolder(Path("made")), name.upper(), kept, passed)  # type: ignore[arg-type]  # a stage by any name

    return do


@pytest.mark.parametrize("failing", ["export", "verify", "bench", None])
def test_the_first_gate_that_fails_ends_the_job(failing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fakes = {name: stage(name, calls, passed=name != failing) for name in STAGES}
    monkeypatch.setattr(whole_job, "_STAGES", fakes)
    begun: list[str] = []
    ended: list[str] = []
    outcome = run_job(Job(Recipe()), begins=begun.append, ended=lambda done: ended.append(done.record))
    wanted = list(STAGES) if failing is None else list(STAGES[: STAGES.index(failing) + 1])
    assert calls == begun == [done.stage for done in outcome.done] == wanted
    assert ended == [name.upper() for name in wanted]
    assert outcome.failed == failing
    assert outcome.run.path == Path("made")


@pytest.mark.skipif(os.name != "posix", reason="folders are not locked there")
@pytest.mark.parametrize("resumed", [True, False])
def test_a_job_is_running_between_its_stages_too(
    tiny: RunFolder, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    def do(job: Job, run: RunFolder | None, reporter: Any) -> Done:
        del job, run, reporter
        return Done("export", tiny, None, kept=False)

    monkeypatch.setattr(whole_job, "_STAGES", dict.fromkeys(STAGES, do))
    running: list[bool] = []
    run_job(Job(Recipe(), resume=tiny if resumed else None), begins=lambda _: running.append(tiny.is_running()))
    assert running == [resumed, *(True,) * (len(STAGES) - 1)]
    assert not tiny.is_running()
    with tiny.whole_job(), pytest.raises(RunError, match="another process is writing the run 'tiny': wait for it"):
        run_job(Job(Recipe(), resume=tiny))


def test_what_stages_find_out_goes_to_the_trackers(tiny: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[Any]()
    monkeypatch.setattr(whole_job, "track", lambda run, trackers, reporter: done.append((run.name, trackers)))
    monkeypatch.setattr(whole_job, "verdicts_of", lambda run, device, images: None)
    monkeypatch.setattr(whole_job, "figures_of", lambda run, options: None)
    monkeypatch.setattr("toolkit.verify.run.verify_run", lambda run, **how: SimpleNamespace(passed=True))
    monkeypatch.setattr("toolkit.bench.bench_run", lambda run, options, **how: SimpleNamespace(rows=()))
    monkeypatch.setattr(whole_job, "write_report", lambda run: done.append("report") or [])
    monkeypatch.setattr(whole_job, "write_pictures", lambda run: [])
    job = Job(Recipe(), trackers=("tensorboard",))
    for name in ("verify", "bench", "report"):
        whole_job._STAGES[name](job, tiny, Silent())  # type: ignore[index]  # names of stages
    # The report goes with the figures, so these are logged once it is written.
    assert done == [(tiny.name, ("tensorboard",)), "report", (tiny.name, ("tensorboard",))]


def test_of_several_processes_the_others_only_train(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(whole_job, "_STAGES", {name: stage(name, calls) for name in STAGES})
    monkeypatch.setitem(os.environ, "RANK", "1")
    assert run_job(Job(Recipe())).done == ()
    assert calls == ["finetune"]


def test_a_finished_fine_tuning_is_kept_and_an_unfinished_one_goes_on_with_its_own_recipe(
    tiny: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def train(recipe: Recipe, **how: Any) -> RunFolder:
        asked.append((recipe, how["name"], how["resume"], how["root"]))
        return tiny

    monkeypatch.setattr(whole_job, "train", train)
    other = Recipe().override({"export.formats": "pt2"})
    fine_tune = whole_job._STAGES["finetune"]
    assert fine_tune(Job(other, resume=tiny), tiny, None).kept  # type: ignore[arg-type]  # nothing is told, as it trains nothing
    assert asked == []
    kept = tiny.record_file.rename(tiny.path / "elsewhere.json")
    done = fine_tune(Job(other, resume=tiny), tiny, None)  # type: ignore[arg-type]  # nothing is told, as it trains nothing
    assert not done.kept
    assert asked == [(tiny.recipe(), "tiny", True, tiny.path.parent)]
    kept.rename(tiny.record_file)


class TestRunToResume:
    def test_the_named_one(self, tiny: RunFolder) -> None:
        assert run_to_resume("tiny", tiny.path.parent).name == "tiny"
        with pytest.raises(RunError, match="there is no run 'other'"):
            run_to_resume("other", tiny.path.parent)

    def test_the_one_that_was_worked_on_last(self, tiny: RunFolder) -> None:
        root = tiny.path.parent
        assert run_to_resume(None, root).name == "tiny"
        unfinished = RunFolder(root / "later")
        unfinished.path.mkdir()
        unfinished.recipe_file.touch()
        finished_at = tiny.record_file.stat().st_mtime
        os.utime(unfinished.recipe_file, (finished_at + 10, finished_at + 10))
        assert run_to_resume(None, root).name == "later"
        os.utime(unfinished.recipe_file, (finished_at - 10, finished_at - 10))
        assert run_to_resume(None, root).name == "tiny"

    def test_where_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="there is no run in"):
            run_to_resume(None, tmp_path)


class TestWhatIsThere:
    def options(self, **changes: Any) -> ExportRecipe:
        return ExportRecipe.model_validate({"formats": ["onnx"], **changes})

    def test_a_bundle_of_these_weights_in_these_formats(self, tiny: RunFolder) -> None:
        run = FinishedRun.of(tiny)
        assert exported_as(run, self.options()) is not None
        assert exported_as(run, self.options(formats=["onnx", "pt2"])) is None
        assert exported_as(run, self.options(formats=["pt2"])) is None
        assert exported_as(run, self.options(input="tensor")) is None
        opset = read_manifest(tiny.bundle).artifacts[0].opset
        assert opset is not None
        assert exported_as(run, self.options(opset=opset)) is not None
        assert exported_as(run, self.options(opset=opset + 1)) is None

    def test_a_bundle_of_other_weights_or_none_is_made_again(self, tiny: RunFolder) -> None:
        run = FinishedRun.of(tiny)
        manifest = read_manifest(tiny.bundle)
        origin = manifest.origin.model_copy(update={"model_sha256": "0" * 64})
        write_manifest(tiny.bundle, manifest.model_copy(update={"origin": origin}))
        assert exported_as(run, self.options()) is None
        tiny.bundle.rename(tiny.path / "gone")
        assert exported_as(run, self.options()) is None

    def test_verdicts_that_passed_on_this_device(self, tiny: RunFolder) -> None:
        assert verdicts_of(tiny, "cpu", 3) is None  # its artifact has none yet
        judge(tiny, passed=True)
        assert verdicts_of(tiny, "cpu", 3) is not None
        assert verdicts_of(tiny, "cuda", 3) is None
        judge(tiny, passed=False)
        assert verdicts_of(tiny, "cpu", 3) is None
        judge(tiny, passed=True)
        tiny.parity_file.unlink()
        assert verdicts_of(tiny, "cpu", 3) is None

    def test_a_report_that_failed_is_none(self, tiny: RunFolder) -> None:
        judge(tiny, passed=True)
        made = provenance.collect()
        ParityReport(run="tiny", reference="PyTorch", passed=False, artifacts=(), provenance=made).save(
            tiny.parity_file
        )
        assert verdicts_of(tiny, "cpu", 3) is None

    def test_figures_of_these_artifacts_as_asked(self, tiny: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        digest = read_manifest(tiny.bundle).artifacts[0].sha256
        measure(tiny, missing("onnx", "cpu", "killed").model_copy(update={"sha256": digest}))
        sizes = SimpleNamespace(batch_size=1)
        loaded = BenchReport.load(tiny.bench_file, "toolkit bench")
        rows = tuple(row.model_copy(update={"timings": (sizes,)}) for row in loaded.rows)
        monkeypatch.setattr(BenchReport, "load", lambda *_: loaded.model_copy(update={"rows": rows}))
        wanted = BenchOptions("cpu", 2, (1,))
        assert figures_of(tiny, wanted) is not None
        for other in (BenchOptions("cuda", 2, (1,)), BenchOptions("cpu", 3, (1,)), BenchOptions("cpu", 2, (1, 8))):
            assert figures_of(tiny, other) is None
        # As after another export: what is no longer in the bundle would still be shown.
        more = (*rows, rows[0].model_copy(update={"sha256": "1" * 64}))
        monkeypatch.setattr(BenchReport, "load", lambda *_: loaded.model_copy(update={"rows": more}))
        assert figures_of(tiny, wanted) is None
        pytorch = (*rows, rows[0].model_copy(update={"sha256": tiny.record().model_sha256}))
        monkeypatch.setattr(BenchReport, "load", lambda *_: loaded.model_copy(update={"rows": pytorch}))
        assert figures_of(tiny, wanted) is not None
        changed = tuple(row.model_copy(update={"sha256": "0" * 64}) for row in rows)
        monkeypatch.setattr(BenchReport, "load", lambda *_: loaded.model_copy(update={"rows": changed}))
        assert figures_of(tiny, wanted) is None
        tiny.bench_file.unlink()
        assert figures_of(tiny, wanted) is None


def judge(run: RunFolder, *, passed: bool) -> None:
    tolerance = Tolerance(precision="float32", logits_absolute=1.0, logits_relative=1.0, probabilities_absolute=1.0)
    verdict = ParityVerdict(
        passed=passed,
        failures=(),
        device="cpu",
        test_images=3,
        max_absolute_logits=0.0,
        top1_agreement=1.0,
        tolerance=tolerance,
        verified="2026-01-01T00:00:00+00:00",
    )
    manifest = read_manifest(run.bundle)
    artifacts = tuple(artifact.model_copy(update={"parity": verdict}) for artifact in manifest.artifacts)
    write_manifest(run.bundle, manifest.model_copy(update={"artifacts": artifacts}))


def measure(run: RunFolder, *rows: BenchRow) -> None:
    BenchReport(run="tiny", model="m", data="d", rows=rows, seconds=1.0, provenance=provenance.collect()).save(
        run.bench_file
    )
