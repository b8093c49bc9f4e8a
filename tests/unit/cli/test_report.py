from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_rows import missing
from finished_runs import write_finished_run
from full_runs import write_full_run

from toolkit import provenance
from toolkit.results import BenchReport
from toolkit.run_folder import RunFolder

Run = Callable[..., tuple[int, str, str]]

HISTORY = (
    "stage,epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,head_lr,backbone_lr,seconds\n"
    "1,1,2.0,0.3,1.9,0.4,0.001,0,1\n"
)


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    """A run with everything that a report is made of."""
    run = write_finished_run(tmp_path / "artifacts" / "small")
    run.history_file.write_text(HISTORY, encoding="utf-8")
    row = missing("onnx", "cpu", "the worker was killed")
    report = BenchReport(
        run="small", model="a model", data="made", rows=(row,), seconds=1.0, provenance=provenance.collect()
    )
    report.save(run.bench_file)
    return run


def test_everything_is_written_again_and_the_table_printed(run: Run, finished: RunFolder) -> None:
    leftover = finished.path / ".model.0a1b2c3d.part.safetensors"
    leftover.touch()
    code, out, err = run("report", "--run", "small", "--artifacts", finished.path.parent)
    assert (code, err) == (0, "")
    assert "small: a model" in out
    assert "onnx on cpu is not measured: the worker was killed" in out
    wrote = f"wrote bench.csv, report.md and report.html in {finished.bench}"
    assert out.splitlines()[-1] == f"{wrote}; next: toolkit predict {finished.path} IMAGES"
    assert {"learning_curves.png", "confusion.png"} <= {path.name for path in finished.path.iterdir()}
    assert not leftover.exists()


def test_a_run_without_benchmark_names_the_command_that_is_missing(run: Run, finished: RunFolder) -> None:
    finished.bench_file.unlink()
    code, out, err = run("report", "--run", finished.path)
    assert (code, out) == (2, "")
    assert err == f"toolkit: the run 'small' has no bundle yet: run 'toolkit export --run {finished.path}' first.\n"
    finished.bundle.mkdir()
    (finished.bundle / "manifest.json").touch()
    code, out, err = run("report", finished.path)
    assert (code, out) == (2, "")
    assert err == f"toolkit: the run 'small' was not measured yet: run 'toolkit bench --run {finished.path}' first.\n"


class TestSeveralRuns:
    @pytest.fixture
    def measured(self, tmp_path: Path) -> Path:
        """A folder of two runs that were measured, one that was not, and what else is found beside runs."""
        artifacts = tmp_path / "artifacts"
        for name in ("one", "two"):
            write_full_run(artifacts / name, images=60, mistakes=1)
        write_full_run(artifacts / "unmeasured", images=60, mistakes=1).bench_file.unlink()
        (artifacts / "latest").symlink_to("two")
        (artifacts / "README.md").touch()
        return artifacts

    def test_all_runs_of_a_folder_are_on_one_page(self, run: Run, measured: Path) -> None:
        code, out, err = run("report", "--runs", "--artifacts", measured)
        assert (code, out) == (0, f"wrote {measured / 'report.html'} on one, two\n")
        assert err.startswith("toolkit: left out: the run 'unmeasured' has no bundle yet: run 'toolkit export --run ")
        text = (measured / "report.html").read_text(encoding="utf-8")
        assert "2 runs side by side" in text
        assert "the run &#39;unmeasured&#39; has no bundle yet" in text

    def test_so_are_those_that_a_pattern_names_each_once(self, run: Run, measured: Path, tmp_path: Path) -> None:
        target = tmp_path / "elsewhere.html"
        code, out, _ = run("report", "--runs", measured / "*", "-o", target)
        assert (code, out) == (0, f"wrote {target} on two, one\n")  # 'latest' comes first
        by_shell = run("report", "--runs", *sorted(measured.iterdir()), "-o", target)
        assert by_shell[:2] == (0, f"wrote {target} on two, one\n")

    def test_links_lead_to_their_own_pages_where_there_are_some(self, run: Run, measured: Path) -> None:
        assert run("report", measured / "one")[0] == 0
        run("report", "--runs", "--artifacts", measured)
        text = (measured / "report.html").read_text(encoding="utf-8")
        assert '<a href="one/bench/report.html">one</a>' in text
        assert "two/bench/report.html" not in text

    def test_one_that_is_damaged_is_left_out_and_does_not_take_the_others_with_it(
        self, run: Run, measured: Path
    ) -> None:
        (measured / "two" / "bench" / "bench.json").write_text("{", encoding="utf-8")
        code, out, err = run("report", "--runs", "--artifacts", measured)
        assert (code, out) == (0, f"wrote {measured / 'report.html'} on one\n")
        assert (
            f"toolkit: left out: {measured / 'two' / 'bench' / 'bench.json'} is not what 'toolkit bench' writes" in err
        )
        assert "bench.json is not what" in (measured / "report.html").read_text(encoding="utf-8")

    def test_runs_of_the_same_name_are_told_apart_by_their_folders(
        self, run: Run, measured: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "archive" / "one"
        shutil.copytree(measured / "one", other)
        assert run("report", "--runs", measured / "one", other, "-o", tmp_path / "both.html")[0] == 0
        text = (tmp_path / "both.html").read_text(encoding="utf-8")
        assert ">artifacts/one<" in text
        assert ">archive/one<" in text

    def test_a_name_that_is_nowhere_is_refused(self, run: Run, measured: Path) -> None:
        code, out, err = run("report", "--runs", "thre", "--artifacts", measured)
        assert (code, out) == (2, "")
        assert err.startswith("toolkit: there is no thre. ")
        assert not (measured / "report.html").exists()

    def test_nothing_that_was_measured_is_a_sentence(self, run: Run, tmp_path: Path) -> None:
        code, _, err = run("report", "--runs", "--artifacts", tmp_path)
        assert (code, err) == (
            2,
            "toolkit: there is no run to show that was measured: run 'toolkit bench' first.\n",
        )

    def test_several_names_without_the_flag_and_a_page_for_one_run(self, run: Run) -> None:
        assert run("report", "a", "b")[2] == (
            "toolkit: 2 runs are named: --runs shows several on one page; without it name one.\n"
        )
        assert run("report", "-o", "x.html")[2] == (
            "toolkit: --output is for --runs: the report of one run is written into its folder.\n"
        )


def test_without_what_a_page_needs_the_rest_is_written(
    run: Run, finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.report.why_no_page", lambda: "report.html is not written, because.")
    monkeypatch.setattr("toolkit.report.files.why_no_page", lambda: "report.html is not written, because.")
    code, out, err = run("report", finished.path)
    assert (code, err) == (0, "toolkit: report.html is not written, because.\n")
    wrote = f"wrote bench.csv and report.md in {finished.bench}"
    assert out.splitlines()[-1] == f"{wrote}; next: toolkit predict {finished.path} IMAGES"
