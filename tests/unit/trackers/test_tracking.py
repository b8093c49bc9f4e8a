"""What is logged when, and what becomes of a tracker that fails: with a tracker that keeps what it is told."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.trackers.conftest import EPOCHS, finish, write_run
from toolkit.errors import FileWriteError, MissingDependencyError, TrackerError
from toolkit.progress import Bar, Silent
from toolkit.results import BenchReport, ParityReport
from toolkit.run_folder import RunFolder
from toolkit.trackers.base import FILE, TrackedRun, Value
from toolkit.trackers.tracking import Following, RememberedTrackers, track
from toolkit.training.history import write_history


class Kept:
    """A tracker whose logs outlive the objects that write them."""

    name = "kept"
    title = "Kept"

    def __init__(self) -> None:
        self.logs: list[Told] = []
        self.failing: str | None = None
        """The method that fails."""
        self.error: BaseException = RuntimeError("the server at https://me:secret@host/x is away\nmore")
        self.gone = False
        """Whether its logs are, so that it begins a new one."""
        self.opened: list[TrackedRun] = []

    def unavailable(self) -> str | None:
        return None

    def open(self, run: TrackedRun, reference: str | None) -> Told:
        self.fail_if("open")
        self.opened.append(run)
        new = reference is None or self.gone or run.copied
        if new:
            self.logs.append(Told(self, str(len(self.logs)), run))
        log = self.logs[-1 if new else int(str(reference))]
        log.opened += 1
        return log

    def fail_if(self, method: str) -> None:
        if self.failing == method:
            raise self.error


class Told:
    def __init__(self, tracker: Kept, reference: str, run: TrackedRun) -> None:
        self.tracker, self.reference, self.run = tracker, reference, run
        self.opened = 0
        self.hyperparameters: dict[str, Value] = {}
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.texts: list[tuple[str, int]] = []
        self.pictures: list[str] = []
        self.ends: list[bool] = []

    def last_step(self, name: str) -> int:
        self.tracker.fail_if("last_step")
        return max((step for step, _ in self.curves.get(name, [])), default=0)

    def parameters(self, values: Mapping[str, Value]) -> None:
        self.hyperparameters = dict(values)

    def figures(self, values: Mapping[str, float], step: int) -> None:
        self.tracker.fail_if("figures")
        for name, value in values.items():
            self.curves.setdefault(name, []).append((step, value))

    def text(self, name: str, markdown: str, step: int) -> None:
        assert markdown
        self.texts.append((name, step))

    def picture(self, name: str, png: Path, step: int) -> None:
        assert (png.is_file(), step) == (True, 1)
        self.pictures.append(name)

    def close(self, *, finished: bool) -> None:
        self.ends.append(finished)
        self.tracker.fail_if("close")

    @property
    def losses(self) -> list[tuple[int, float]]:
        return self.curves.get("train/loss", [])


ALL = [(1, 0.75), (2, 0.5), (3, 0.25)]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    tracker = Kept()

    def usable(name: str) -> Kept:
        if name != "kept":
            raise TrackerError(f"there is no tracker {name!r}; trackers here are kept.")
        return tracker

    monkeypatch.setattr("toolkit.trackers.tracking.usable", usable)
    return tracker


@pytest.fixture
def begun(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "artifacts" / "mine", 0)


def remembered(run: RunFolder) -> list[tuple[str, str | None]]:
    record = RememberedTrackers.load(run.path / FILE, "")
    return [(entry.tracker, entry.reference) for entry in record.trackers]


class TestTraining:
    def test_epochs_are_logged_as_they_end_and_the_rest_at_the_end(self, kept: Kept, begun: RunFolder) -> None:
        with Following(["kept"], anew=True) as log:
            log.observe(begun, [])
            (told,) = kept.logs
            assert told.hyperparameters["data.source"] == "digits"
            assert told.run == TrackedRun("mine", begun.path, begun.path.parent)
            for count in (1, 1, 2, 3):  # a checkpoint within an epoch tells of the same ones again
                log.observe(begun, EPOCHS[:count])
                assert told.losses == ALL[:count]
            write_history(begun.history_file, EPOCHS)
            finish(begun)
            log.finish()
        assert told.losses == ALL
        assert told.curves["test/accuracy"] == [(1, 0.75)]
        assert told.pictures == ["confusion"]
        assert told.ends == [True]
        assert remembered(begun) == [("kept", "0")]

    def test_one_that_goes_on_doubles_nothing_and_lacks_nothing(self, kept: Kept, begun: RunFolder) -> None:
        first = Following(["kept"], anew=True)  # killed: never left
        first.observe(begun, [])
        first.observe(begun, EPOCHS[:1])
        with Following([], anew=False) as log:  # the second epoch was saved and not logged any more
            log.observe(begun, EPOCHS[:2])
            log.observe(begun, EPOCHS)
        (told,) = kept.logs
        assert told.losses == ALL
        assert told.opened == 2

    def test_one_that_goes_back_to_an_older_checkpoint_logs_no_epoch_twice(self, kept: Kept, begun: RunFolder) -> None:
        with Following(["kept"], anew=True) as log:
            log.observe(begun, EPOCHS[:2])
        with Following([], anew=False) as log:
            for count in range(4):
                log.observe(begun, EPOCHS[:count])
        assert kept.logs[0].losses == ALL

    def test_one_that_starts_anew_gets_a_new_log(self, kept: Kept, begun: RunFolder) -> None:
        for _ in range(2):
            with Following(["kept"], anew=True) as log:
                log.observe(begun, EPOCHS[:1])
        assert [told.losses for told in kept.logs] == [ALL[:1], ALL[:1]]
        with Following([], anew=True) as log:  # and one that was not asked for anew is forgotten
            log.observe(begun, EPOCHS[:1])
        assert len(kept.logs) == 2
        assert not (begun.path / FILE).exists()

    def test_one_that_ends_badly_says_so(self, kept: Kept, begun: RunFolder) -> None:
        def stopped() -> None:
            with Following(["kept"], anew=True) as log:
                log.observe(begun, EPOCHS[:1])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stopped()
        assert kept.logs[0].ends == [False]


def found_at(report: ParityReport, created: str) -> ParityReport:
    """Return a report as another command would have made it."""
    return report.model_copy(update={"provenance": report.provenance.model_copy(update={"created": created})})


class TestLaterStages:
    def test_verify_and_bench_go_on_with_the_same_log(
        self, kept: Kept, run: RunFolder, parity: ParityReport, bench: BenchReport
    ) -> None:
        found_at(parity, "10:00").save(run.parity_file)
        track(run, ["kept"])
        found_at(parity, "11:00").save(run.parity_file)
        track(run)
        bench.save(run.bench_file)
        (run.bench / "report.md").write_text("# fast\n")
        track(run)
        (told,) = kept.logs
        assert told.losses == ALL
        assert told.pictures == ["confusion"]
        assert told.curves["parity/passed"] == [(1, 0.0), (2, 0.0)]
        assert told.curves["bench/onnx/cpu/batch_32/images_per_second"] == [(1, 512.0)]
        assert told.texts == [("parity", 1), ("parity", 2), ("bench", 1)]
        assert told.ends == [True] * 3

    def test_what_is_known_already_is_no_further_step(
        self, kept: Kept, run: RunFolder, parity: ParityReport, bench: BenchReport
    ) -> None:
        parity.save(run.parity_file)
        bench.save(run.bench_file)
        for _ in range(2):
            track(run, ["kept"])
        assert kept.logs[0].curves["parity/passed"] == [(1, 0.0)]
        assert kept.logs[0].curves["bench/rows_measured"] == [(1, 1.0)]

    @pytest.mark.parametrize("method", ["open", "last_step", "figures"])
    def test_verdicts_and_figures_that_a_tracker_missed_are_made_up_for(
        self, kept: Kept, run: RunFolder, parity: ParityReport, bench: BenchReport, method: str
    ) -> None:
        track(run, ["kept"])
        kept.failing = method
        parity.save(run.parity_file)
        bench.save(run.bench_file)
        track(run)
        kept.failing = None
        track(run)
        (told,) = kept.logs
        assert told.curves["parity/passed"] == [(1, 0.0)]
        assert told.curves["bench/rows_measured"] == [(1, 1.0)]

    def test_a_log_that_was_begun_anew_gets_everything(self, kept: Kept, run: RunFolder, parity: ParityReport) -> None:
        parity.save(run.parity_file)
        track(run, ["kept"])
        kept.gone = True
        track(run)
        kept.gone = False
        track(run)
        first, second = kept.logs
        assert second.curves == first.curves
        assert second.hyperparameters == first.hyperparameters
        assert remembered(run) == [("kept", "1")]

    def test_a_run_that_nobody_tracks_is_left_alone(self, kept: Kept, run: RunFolder, parity: ParityReport) -> None:
        parity.save(run.parity_file)
        before = sorted(run.path.iterdir())
        track(run)
        assert (kept.logs, sorted(run.path.iterdir())) == ([], before)

    def test_a_damaged_record_of_trackers_is_said_and_kept(
        self, kept: Kept, run: RunFolder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (run.path / FILE).write_text("{}x")
        track(run, ["kept"])
        said = capsys.readouterr().err
        assert "trackers.json is not what 'toolkit finetune --track' writes" in said
        assert said.endswith("Or remove it, to log the run anew. Until then it is logged to no tracker.\n")
        assert (kept.logs, (run.path / FILE).read_text()) == ([], "{}x")


class TestFolders:
    def test_a_copy_says_so_and_goes_on_by_itself(self, kept: Kept, run: RunFolder) -> None:
        track(run, ["kept"])
        copy = RunFolder(run.path.with_name("copy"))
        shutil.copytree(run.path, copy.path)
        track(copy)
        assert kept.opened[-1] == TrackedRun("copy", copy.path, copy.path.parent, copied=True)
        # It has a log of its own by now, so neither is a copy of the other any more.
        track(copy)
        track(run)
        assert [opened.copied for opened in kept.opened] == [False, True, False, False]
        assert (remembered(run), remembered(copy)) == ([("kept", "0")], [("kept", "1")])

    def test_of_two_that_both_have_new_names_one_goes_on(self, kept: Kept, run: RunFolder) -> None:
        track(run, ["kept"])
        copy = run.path.with_name("copy")
        shutil.copytree(run.path, copy)
        renamed = run.path.rename(run.path.with_name("renamed"))
        for path in (renamed, copy, renamed, copy):
            track(RunFolder(path))
        assert [opened.copied for opened in kept.opened] == [False, True, False, False, False]
        assert (remembered(RunFolder(renamed)), remembered(RunFolder(copy))) == ([("kept", "1")], [("kept", "0")])

    def test_one_that_was_renamed_goes_on_under_its_new_name(self, kept: Kept, run: RunFolder) -> None:
        track(run, ["kept"])
        renamed = RunFolder(run.path.rename(run.path.with_name("renamed")))
        for path in (renamed.path, renamed.path.with_name("again")):
            if path != renamed.path:
                renamed.path.rename(path)
            track(RunFolder(path))
        write_run(run.path)  # another run of the old name is not what it was copied from
        track(RunFolder(path))
        assert [(opened.name, opened.copied) for opened in kept.opened] == [
            ("mine", False),
            ("renamed", False),
            ("again", False),
            ("again", False),
        ]
        assert len(kept.logs) == 1

    def test_one_that_is_named_by_a_dot_has_the_name_of_its_folder(
        self, kept: Kept, run: RunFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(run.path)
        track(RunFolder(Path()), ["kept"])
        assert kept.opened == [TrackedRun("mine", run.path, run.path.parent)]


class TestFailures:
    @pytest.mark.parametrize("method", ["open", "last_step", "figures"])
    def test_one_that_fails_is_one_sentence_and_training_goes_on(
        self, kept: Kept, begun: RunFolder, capsys: pytest.CaptureFixture[str], method: str
    ) -> None:
        kept.failing = method
        with Following(["kept"], anew=True) as log:
            for count in range(4):
                log.observe(begun, EPOCHS[:count])
            write_history(begun.history_file, EPOCHS)
            log.finish()
        assert capsys.readouterr().err == (
            "toolkit: the tracker 'kept' is left out from here on: it failed (RuntimeError: the server at "
            "https://host/x is away). The work goes on, and the next command that logs this run makes up for it.\n"
        )
        assert remembered(begun)[0][0] == "kept"
        kept.failing = None
        finish(begun)
        track(begun)
        assert kept.logs[-1].losses == ALL
        assert kept.logs[-1].curves["test/accuracy"] == [(1, 0.75)]

    def test_one_that_was_away_for_a_while_has_everything_in_the_end(
        self, kept: Kept, begun: RunFolder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Following(["kept"], anew=True) as log:
            log.observe(begun, EPOCHS[:1])
            kept.failing = "figures"
            log.observe(begun, EPOCHS[:2])
            kept.failing = None
            log.observe(begun, EPOCHS)
            assert kept.logs[0].losses == ALL[:1]
            write_history(begun.history_file, EPOCHS)
            finish(begun)
            log.finish()
        assert kept.logs[0].losses == ALL
        assert kept.logs[0].pictures == ["confusion"]
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_one_that_fails_at_its_end_too(
        self, kept: Kept, begun: RunFolder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept.failing = "close"
        with Following(["kept"], anew=True) as log:
            log.observe(begun, EPOCHS[:1])
        assert "the tracker 'kept' is left out" in capsys.readouterr().err

    def test_the_others_go_on(
        self, kept: Kept, begun: RunFolder, parity: ParityReport, capsys: pytest.CaptureFixture[str]
    ) -> None:
        parity.save(begun.parity_file)
        track(begun, ["gone", "kept"])
        assert kept.logs[0].curves["parity/passed"] == [(1, 0.0)]
        said = capsys.readouterr().err
        assert said.startswith("toolkit: the tracker 'gone' is left out from here on: there is no tracker 'gone'")
        assert len(said.splitlines()) == 1

    def test_what_it_needs_was_uninstalled(
        self, kept: Kept, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def missing(name: str) -> Any:
            raise MissingDependencyError("Kept is not installed: pip install kept.")

        monkeypatch.setattr("toolkit.trackers.tracking.usable", missing)
        track(run, ["kept"])
        assert "from here on: Kept is not installed: pip install kept. The work goes on" in capsys.readouterr().err

    def test_one_that_ends_the_process_ends_nothing_but_itself(
        self, kept: Kept, run: RunFolder, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kept.failing, kept.error = "figures", SystemExit(0)
        track(run, ["kept"])
        assert "is left out from here on: it failed (SystemExit: 0)." in capsys.readouterr().err

    def test_ctrl_c_is_not_a_failure_of_the_tracker(self, kept: Kept, run: RunFolder) -> None:
        kept.failing, kept.error = "figures", KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            track(run, ["kept"])

    def test_a_folder_that_cannot_be_written_is_said(
        self, kept: Kept, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("toolkit.trackers.tracking.RememberedTrackers.save", _full)
        track(run, ["kept"])
        assert "the next command must be told again to track the run" in capsys.readouterr().err

    def test_nobody_reads_standard_error(self, kept: Kept, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        kept.failing = "open"
        monkeypatch.setattr("sys.stderr", None)
        track(run, ["kept"])


class TestProgress:
    def test_whoever_waits_sees_for_which_tracker(self, kept: Kept, run: RunFolder) -> None:
        del kept
        shown: list[str] = []

        class Shown(Silent):
            def bar(self, description: str, total: int, unit: str) -> AbstractContextManager[Bar]:
                shown.append(description)
                return super().bar(description, total, unit)

        track(run, ["kept"], Shown())
        assert set(shown) == {"telling the tracker 'kept'"}
        shown.clear()
        with Following(["kept"], anew=True, reporter=Shown()) as log:
            log.observe(run, EPOCHS)
        assert set(shown) == {"telling the tracker 'kept'"}


def _full(*_: object) -> None:
    raise FileWriteError("cannot write trackers.json: no space left.")
