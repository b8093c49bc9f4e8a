"""``report.html`` as text; ``integration/test_page_in_browser.py`` opens it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from full_runs import write_full_run

from toolkit.distribution import install_hint
from toolkit.report import page, write_report
from toolkit.report.page import run_page, runs_page, whole_rows, why_no_page
from toolkit.report.records import RunRecords, read_records
from toolkit.report.tables import bench_table

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    return read_records(write_full_run(tmp_path_factory.mktemp("full") / "cifar", images=200, mistakes=3))


@pytest.fixture(scope="module")
def text(records: RunRecords) -> str:
    return run_page(records)


def test_it_begins_with_the_answer_and_has_all_parts(text: str) -> None:
    assert re.findall("<(?:h1|h2|h3|dt)>([^<]*)<", text) == [
        "tf_efficientnet_lite0, fine-tuned on cifar10",
        "How good it is",
        "For latency, ship",
        "For throughput, ship",
        "What it costs in accuracy",
        "Accuracy against throughput",
        "How long single calls take",
        "What limits each row",
        "Batch size, threads and streams",
        "Where the time of an image goes",
        "Learning curves",
        "What it gets wrong",
        "Confusion matrix",
        "Which class is taken for which",
        "Labels that are probably wrong",
        "What this estimate cannot tell",
        "Are the probabilities right?",
        "Is each artifact the same model?",
        "Images that change their class",
        "The data",
        "The machine",
        "Make it again",
    ]


def test_nothing_leads_to_the_network(text: str) -> None:
    own = re.sub(r"http://www\.w3\.org/(2000/svg|1999/xlink)", "", text)
    assert "http:" not in own
    assert "https:" not in own
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', own) == []
    assert "@import" not in own


def test_what_no_row_has_measured_is_not_blank(text: str) -> None:
    assert "not measured: asked for cuda, onnxruntime 1.24.0 runs it on cpu" in text


def test_the_rows_that_are_recommended_stand_out(text: str) -> None:
    marked = re.findall('<tr class="picked"><th scope="row">([^<]*)</th><td>([^<]*)</td>', text)
    assert marked == [("onnx-int8", "cpu"), ("onnx-int8", "cpu")]  # at both batch sizes


def test_what_a_row_says_once_is_repeated_so_that_it_can_be_sorted(records: RunRecords) -> None:
    table = bench_table(records.bench)
    whole = whole_rows(table)
    assert table.lines[1].cells[-1] == ""
    assert whole.lines[1].cells[-1] == whole.lines[0].cells[-1] == "512"
    assert whole.lines[1].cells[2] == "32"
    assert whole.lines[-1] == table.lines[-1]


def test_several_runs(records: RunRecords) -> None:
    text = runs_page([records, records], ["a/b%20c/report.html", ""], ["the run 'x' was not measured yet"])
    assert "2 runs side by side" in text
    assert '<a href="a/b%20c/report.html">cifar</a>' in text
    assert "the run &#39;x&#39; was not measured yet" in text


@pytest.mark.parametrize(("package", "needs"), [("jinja2", "the page needs Jinja2"), ("matplotlib", "pictures need")])
def test_without_a_package_the_rest_is_written_and_one_sentence_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, needs: str
) -> None:
    run = write_full_run(tmp_path / "cifar", images=20, mistakes=1)

    def absent(name: str, missing: str) -> str | None:
        return missing if name == package else None

    monkeypatch.setattr(page, "why_not", absent)
    reason = why_no_page()
    assert reason is not None
    assert reason.startswith(f"report.html is not written, {needs}")
    assert reason.endswith(f"{install_hint('train')}.")
    assert [file.name for file in write_report(run)] == ["bench.csv", "report.md"]
    assert not run.report_file.exists()


def test_the_module_is_imported_without_either(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['jinja2'] = sys.modules['matplotlib'] = sys.modules['markupsafe'] = None; "
    code = blocked + "from toolkit.report import why_no_page; print(why_no_page())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("report.html is not written, ")


def test_the_wheel_has_the_templates() -> None:
    """Hatch takes whatever lies in the package, unless it is told otherwise or Git ignores it."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert wheel == {"targets": {"wheel": {"packages": ["toolkit"]}}}
    templates = [path.relative_to(ROOT).as_posix() for path in page.TEMPLATES.iterdir()]
    assert len(templates) == 6
    ignored = subprocess.run(["git", "check-ignore", *templates], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout == ""


def test_what_reorders_or_hides_text_is_written_out_wherever_it_comes_from(records: RunRecords) -> None:
    named = records.bench.rows[3].model_copy(update={"name": "on\u202enx\x1b[2J", "why": "a\u2066b</li><script>"})
    text = run_page(RunRecords(records.bench.model_copy(update={"run": "a\u202eb", "rows": (named,)})))
    assert [character for character in "\u202e\u2066\x1b" if character in text] == []
    assert "<title>a\\u202eb: report</title>" in text
    assert "on\\u202enx\\x1b[2J" in text
    assert "a\\u2066b&lt;/li&gt;&lt;script&gt;" in text
    assert text.count("<script") == 1
