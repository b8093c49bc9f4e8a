"""JUnit XML of a comparison, as a CI service reads it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench_reports import noisy_report, report, row, timing
from bench_rows import missing
from junit_schema import require_fit

from toolkit.comparison import Limits, compare_figures
from toolkit.comparison.sides import figures_of_report
from toolkit.report import comparison_junit
from toolkit.results import BenchReport


def suite(a: BenchReport, b: BenchReport, limits: Limits | None = None) -> ET.Element:
    text = comparison_junit(compare_figures(figures_of_report(a, "report"), figures_of_report(b, "report"), limits))
    require_fit(text)
    return ET.fromstring(text)


def outcomes(found: ET.Element) -> dict[tuple[str, str], str]:
    return {
        (case.attrib["classname"], case.attrib["name"]): next(
            (kind for kind in ("failure", "skipped") if case.find(kind) is not None), "passed"
        )
        for case in found.findall("testcase")
    }


def test_a_line_that_fails_a_gate_is_a_failed_case() -> None:
    found = suite(noisy_report(1), noisy_report(2, {"onnx": 1.1}), Limits(throughput=0.05, accuracy=0.01))
    failed = {key for key, outcome in outcomes(found).items() if outcome == "failure"}
    assert failed == {("toolkit.compare.onnx.cpu", f"throughput at batch {size}") for size in (1, 32)}
    assert (found.attrib["tests"], found.attrib["failures"], found.attrib["skipped"]) == ("9", "2", "0")
    failure = next(found.iter("failure"))
    assert failure.attrib["message"].endswith("0.950 is allowed")
    printed = {line.partition(": ")[0] for case in found.iter("system-out") for line in (case.text or "").splitlines()}
    assert printed == {"ratio", "low", "high", "verdict", "difference", "paired"}


def test_without_a_gate_no_case_fails() -> None:
    assert set(outcomes(suite(noisy_report(1), noisy_report(2, {"onnx": 2.0}))).values()) == {"passed"}


def test_what_could_not_be_compared_is_skipped_with_its_reason() -> None:
    a = report([row("onnx", [timing(1, [1.0] * 8), timing(8, [1.0] * 8)]), row("pt2", [])])
    b = report([row("onnx", [timing(1, [1.0] * 8)]), missing("pt2", "cpu", "died: \x00 & <b>")])
    found = suite(a, b)
    assert outcomes(found)["toolkit.compare.onnx.cpu", "throughput at batch 8"] == "skipped"
    assert outcomes(found)["toolkit.compare.pt2.cpu", "row"] == "skipped"
    assert [entry.attrib["message"] for entry in found.iter("skipped")][1].startswith("B has no figures: died: ")


def test_a_loss_of_accuracy_fails_its_case() -> None:
    rates = [timing(1, [1.0] * 8)]
    a, b = (report([row("onnx", rates, right=[True] * (100 - lost) + [False] * lost)]) for lost in (0, 50))
    found = suite(a, b, Limits(accuracy=0.1))
    assert outcomes(found)["toolkit.compare.onnx.cpu", "accuracy"] == "failure"


def test_a_gate_that_judged_nothing_is_a_failed_case() -> None:
    found = suite(report([row("onnx", [])]), report([row("pt2", [])]), Limits(throughput=0.05))
    assert outcomes(found)["toolkit.compare", "throughput gate"] == "failure"
