"""``toolkit compare`` over real files, and what its arguments are refused for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from bench_reports import HARDWARE, noisy_report, provenance, report, row, timing

from toolkit.comparison.together import ROUNDS
from toolkit.results import BenchReport, Comparison

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reports(here: Path) -> Path:
    """Files of one artifact that was slowed by 10%, of one that was not, and of another machine."""
    noisy_report(1).save(here / "a.json")
    noisy_report(2).save(here / "same.json")
    noisy_report(3, {"onnx": 1.1}).save(here / "slower.json")
    noisy_report(4, provenance=provenance(HARDWARE.model_copy(update={"cores": 64}))).save(here / "elsewhere.json")
    return here


def test_a_planted_slowdown_of_a_tenth_fails_the_gate_and_none_does_not(run: Run, reports: Path) -> None:
    code, out, _ = run("compare", "a.json", "slower.json", "--fail-over", "5%")
    assert code == 1
    assert "throughput may fall by 5.00%: FAILED in 2 of 6 lines" in out
    assert "onnx on cpu at batch 1 reaches 0.9" in out
    code, out, _ = run("compare", "a.json", "same.json", "--fail-over", "5%")
    assert code == 0
    assert "throughput may fall by 5.00%: passed, 6 lines" in out


def test_without_a_gate_a_difference_is_told_and_nothing_fails(run: Run, reports: Path) -> None:
    code, out, _ = run("compare", "a.json", "slower.json")
    assert code == 0
    assert "slower in 2" in out


def test_everything_is_written(run: Run, reports: Path) -> None:
    files = ("--junit", "out/junit.xml", "--markdown", "out/compare.md", "--json", "out/compare.json")
    code, _, _ = run("compare", "a.json", "slower.json", "--fail-over", "5%", *files)
    assert code == 1
    assert ET.parse(reports / "out" / "junit.xml").getroot().attrib["failures"] == "2"
    assert (reports / "out" / "compare.md").read_text().startswith("### toolkit compare: **FAILED**")
    comparison = Comparison.from_json((reports / "out" / "compare.json").read_text())
    assert not comparison.passed
    assert (comparison.a.name, comparison.a.kind) == ("made", "report")


def test_another_machine_is_refused_unless_asked_for(run: Run, reports: Path) -> None:
    code, _, err = run("compare", "a.json", "elsewhere.json")
    assert code == 2
    assert "different machines (cores 2 in A, 64 in B)" in err
    assert run("compare", "a.json", "elsewhere.json", "--any-machine")[0] == 0


def test_nothing_to_judge_is_exit_code_2_and_the_files_say_why(run: Run, here: Path) -> None:
    for name in ("onnx", "pt2"):
        report([row(name, [timing(1, [1.0] * 8)])]).save(here / f"{name}.json")
    code, out, err = run("compare", "onnx.json", "pt2.json", "--fail-over", "5%", "--markdown", "it.md")
    assert code == 2
    assert "onnx on cpu is not compared: B has no such row" in out
    assert "throughput could not be judged" in err
    assert "NOT JUDGED" in (here / "it.md").read_text()
    code, _, err = run("compare", "onnx.json", "pt2.json")
    assert code == 2
    assert "nothing of the two can be compared" in err


@pytest.mark.parametrize("given", ["5", "0%", "100%", "-1%", "five%", "5%%", "5% or so", "nan%", "inf%"])
@pytest.mark.parametrize("option", ["--fail-over", "--fail-accuracy-over"])
def test_a_limit_is_a_percentage(run: Run, reports: Path, option: str, given: str) -> None:
    code, _, err = run("compare", "a.json", "same.json", option, given)
    assert code == 2
    assert f"{option} '{given}' is no loss that can be allowed: give a percentage, e.g. 5%." in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("a.json", "same.json", "--rounds", "20"),
            "--rounds says how to measure, and nothing is measured: add --measure",
        ),
        (("a.json", "same.json", "--device", "cpu"), "--device says how to measure"),
        (("a.json", "same.json", "--allow-code"), "--allow-code says how to measure"),
        (("a.json", "same.json", "--measure", "--any-machine"), "leave --any-machine out"),
        (
            ("a.json", "same.json", "--measure"),
            "a.json is a report, which cannot be measured: give its run or a bundle",
        ),
        (("a.json", "a.json"), "A and B hold one and the same measurement, of a.json and a.json: give two"),
        (("a.json", "copy.json"), "A and B hold one and the same measurement, of a.json and copy.json: give two"),
        (("a.json", "same.json", "--only", "onnx,pt2"), "neither side has a row 'pt2': choose from eager, onnx, torch"),
        (("a.json", "nowhere"), "there is no nowhere."),
        (("a.json", "nowhere.json"), "there is no nowhere.json."),
        (("a.json", "broken.json"), "broken.json is not what 'toolkit bench' writes"),
        (("a.json", "it.tar"), "it.tar is a file, a bundle is a folder. 'toolkit unpack'"),
        (("a.json", "same.json", "--junit", "slower.json/x.xml"), "cannot write into slower.json"),
        (("a.json", "same.json", "--junit", "."), "cannot write .: it is a folder. Name a file"),
        (("a.json", "same.json", "--markdown", "artifacts"), "cannot write artifacts: it is a folder. Name a file"),
        (("a.json", "same.json", "--json", "a.json"), "cannot write a.json: it is compared, or named twice"),
        (("a.json", "same.json", "--json", "x", "--junit", "./x"), "cannot write x: it is compared, or named twice"),
        (("a.json", "same.json", "--measure", "--batch-sizes", "0"), "--batch-sizes '0' is not a list of sizes"),
    ],
)
def test_mistakes(run: Run, reports: Path, arguments: tuple[str, ...], said: str) -> None:
    (reports / "broken.json").write_text("{")
    (reports / "it.tar").write_bytes(b"")
    shutil.copy(reports / "a.json", reports / "copy.json")
    (reports / "artifacts").mkdir()
    before = (reports / "a.json").read_bytes()
    code, _, err = run("compare", *arguments)
    assert code == 2
    assert said in err
    assert (reports / "a.json").read_bytes() == before


def test_a_run_is_found_by_its_name_and_a_bundle_by_its_folder(run: Run, here: Path, colour_bundle: Path) -> None:
    folder = here / "artifacts" / "mine"
    (folder / "bench").mkdir(parents=True)
    (folder / "recipe.toml").write_text("")
    noisy_report(1).save(folder / "bench" / "bench.json")
    noisy_report(2).save(here / "same.json")
    code, out, _ = run("compare", "mine", "same.json")
    assert code == 0
    assert "A: run made" in out
    code, _, err = run("compare", "mine", colour_bundle)
    assert code == 2
    assert "was never measured: measure both sides now with --measure" in err


def test_measuring_is_asked_for_with_its_options(
    run: Run, here: Path, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def measure(a: Any, b: Any, options: Any, *, only: Any, reporter: Any) -> Any:
        asked.update(a=a, b=b, options=options, only=only)
        from toolkit.comparison.sides import figures_of_report

        return tuple(figures_of_report(noisy_report(seed), "bundle") for seed in (1, 1))

    monkeypatch.setattr("toolkit.comparison.together.measure_together", measure)
    how = ("--threads", "1", "--batch-sizes", "1,8", "--rounds", "30", "--device", "cpu", "--allow-code", "--quiet")
    how += ("--only", "onnx, eager")
    code, out, _ = run("compare", colour_bundle, colour_bundle, "--measure", "--fail-over", "5%", *how)
    assert code == 0
    assert "in turns" in out
    options = asked["options"]
    assert (options.device, options.threads, options.batch_sizes, options.rounds) == ("cpu", 1, (1, 8), 30)
    assert options.allow_code
    assert asked["only"] == ("onnx", "eager")
    assert "torchscript" not in out
    assert asked["a"].bundle == colour_bundle
    run("compare", colour_bundle, colour_bundle, "--measure")
    options = asked["options"]
    assert (options.device, options.batch_sizes, options.rounds) == ("auto", (1, 32), ROUNDS)


def test_an_older_report_is_read(run: Run, here: Path) -> None:
    def older(seed: int) -> BenchReport:
        made = noisy_report(seed)
        rows = []
        for each in made.rows:
            timings = tuple(one.model_copy(update={"rounds_images_per_second": ()}) for one in each.timings)
            rows.append(each.model_copy(update={"timings": timings, "correct": None}))
        return made.model_copy(update={"rows": tuple(rows), "test_fingerprint": None})

    for seed in (1, 2):
        older(seed).save(here / f"{seed}.json")
    code, out, _ = run("compare", "1.json", "2.json", "--fail-over", "5%")
    assert code == 0
    assert "approximations" in out


def test_a_gate_that_could_not_judge_a_line_says_so_and_ends_with_2(run: Run, here: Path) -> None:
    kept, lost = (row(name, [timing(1, [100.0 + place for place in range(12)])]) for name in ("onnx", "pt2"))
    report([kept, lost]).save(here / "a.json")
    report([row("onnx", [timing(1, [111.0 - place for place in range(12)])])]).save(here / "b.json")
    files = ("--junit", "it.xml", "--markdown", "it.md")
    code, out, err = run("compare", "a.json", "b.json", "--fail-over", "5%", *files)
    assert code == 2
    assert "throughput may fall by 5.00%: 1 NOT JUDGED, nothing wrong with the other 1 line" in " ".join(out.split())
    assert "not every line that A has could be judged (throughput: pt2 on cpu: B has no such row)" in err
    assert (here / "it.md").read_text().startswith("### toolkit compare: **NOT JUDGED**")
    assert ET.parse(here / "it.xml").getroot().attrib["failures"] == "1"
    assert run("compare", "a.json", "b.json", "--fail-over", "5%", "--only", "onnx")[0] == 0
    assert run("compare", "a.json", "b.json")[0] == 0  # without a gate nothing is promised


@pytest.mark.parametrize("option", ["--json", "--junit", "--markdown"])
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "new/file.txt"])
def test_no_file_of_what_is_compared_is_replaced(
    run: Run, reports: Path, colour_bundle: Path, option: str, name: str
) -> None:
    before = {path: path.read_bytes() for path in colour_bundle.rglob("*") if path.is_file()}
    for sides in (("a.json", colour_bundle), (colour_bundle, colour_bundle, "--measure")):
        code, _, err = run("compare", *sides, option, colour_bundle / name)
        assert code == 2
        assert "it lies in what is compared" in err
    assert {path: path.read_bytes() for path in colour_bundle.rglob("*") if path.is_file()} == before
