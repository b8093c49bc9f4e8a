"""A comparison as JUnit XML, which CI services show as tests; see ``verify.junit``."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from toolkit.report.comparison import NOT_COMPARABLE
from toolkit.results import AccuracyComparison, ComparedRow, Comparison, SpeedComparison
from toolkit.verify.junit import print_facts, xml_text


def comparison_junit(comparison: Comparison) -> str:
    """Return one test suite with one test case per line that was compared.

    A case fails where a gate does on its line; without a gate none fails. What could not be compared is skipped.
    """
    suite = ET.Element("testsuite", name="toolkit compare", timestamp=comparison.provenance.created)
    for row in comparison.rows:
        if row.missing is not None:
            _skipped(_case(suite, row, "row"), row.missing)
        for speed in row.speeds:
            _speed_case(suite, row, speed)
        if row.accuracy is not None:
            _accuracy_case(suite, row, row.accuracy)
    for gate in comparison.gates:
        if not gate.judged or gate.not_judged:
            case = ET.SubElement(suite, "testcase", classname="toolkit.compare", name=f"{gate.name} gate", time="0.000")
            _failed(case, "\n".join(gate.not_judged) or f"nothing could be compared, so {gate.name} was not judged")
    cases = suite.findall("testcase")
    suite.attrib |= {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": "0.000",
    }
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _speed_case(suite: ET.Element, row: ComparedRow, speed: SpeedComparison) -> None:
    case = _case(suite, row, f"throughput at batch {speed.batch_size}")
    if speed.ratio is None or speed.interval is None:
        _skipped(case, speed.why or NOT_COMPARABLE)
        return
    low, high = speed.interval.low, speed.interval.high
    if speed.failure is not None:
        _failed(case, speed.failure)
    values = {"ratio": f"{speed.ratio:.4f}", "low": f"{low:.4f}", "high": f"{high:.4f}"}
    print_facts(case, {**values, "verdict": speed.verdict})


def _accuracy_case(suite: ET.Element, row: ComparedRow, scored: AccuracyComparison) -> None:
    case = _case(suite, row, "accuracy")
    if scored.difference is None or scored.interval is None:
        _skipped(case, scored.why or NOT_COMPARABLE)
        return
    low, high = scored.interval.low, scored.interval.high
    values = {"difference": f"{scored.difference:.5f}", "low": f"{low:.5f}", "high": f"{high:.5f}"}
    if scored.failure is not None:
        _failed(case, scored.failure)
    print_facts(case, {**values, "paired": str(scored.paired).lower(), "verdict": scored.verdict})


def _case(suite: ET.Element, row: ComparedRow, name: str) -> ET.Element:
    owner = xml_text(f"toolkit.compare.{row.name}.{row.device}")
    return ET.SubElement(suite, "testcase", classname=owner, name=name, time="0.000")


def _skipped(case: ET.Element, reason: str) -> None:
    ET.SubElement(case, "skipped", message=xml_text(reason))


def _failed(case: ET.Element, sentence: str) -> None:
    failure = ET.SubElement(case, "failure", type="regression", message=xml_text(sentence))
    failure.text = xml_text(sentence)
