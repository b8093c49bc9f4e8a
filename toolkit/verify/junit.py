"""A parity report as JUnit XML, which CI services show as tests.

Nobody owns this format. What is written fits the strictest reader there is, the xUnit plugin of Jenkins, which refuses
a file that does not fit its schema; there a suite has properties, and a case has only what it prints:
https://github.com/jenkinsci/xunit-plugin/blob/master/src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/junit-10.xsd
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from toolkit.results import ArtifactParity, Check, ParityReport

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Everything but the characters that XML 1.0 allows; what an engine says may hold any."""


def junit_xml(report: ParityReport) -> str:
    """Return one test suite with one test case per artifact and check.

    A failed case holds its sentences, one per line.
    """
    suite = ET.Element("testsuite", name="toolkit verify", timestamp=report.provenance.created)
    _properties(suite, {"run": report.run, "reference": report.reference, "toolkit": report.provenance.toolkit})
    for check in report.checks:
        _case(suite, f"toolkit.verify.{report.run}", check)
    for artifact in report.artifacts:
        for position, check in enumerate(artifact.checks or (_whole(artifact),)):
            _case(suite, f"toolkit.verify.{report.run}.{artifact.file}", check, {} if position else _facts(artifact))
    for file, reason in report.not_judged.items():
        case = ET.SubElement(
            suite, "testcase", classname=xml_text(f"toolkit.verify.{report.run}.{file}"), name="opens", time="0.000"
        )
        ET.SubElement(case, "skipped", message=xml_text(reason))
    cases = suite.findall("testcase")
    suite.attrib |= {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": str(len(report.not_judged)),
        "time": f"{sum(float(case.attrib['time']) for case in cases):.3f}",
    }
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _whole(artifact: ArtifactParity) -> Check:
    """Return the verdict as one check: a record of an older toolkit does not tell its checks apart."""
    return Check(name="parity", passed=artifact.passed, failures=artifact.failures, detail="", seconds=artifact.seconds)


def _case(suite: ET.Element, owner: str, check: Check, facts: dict[str, str] | None = None) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=xml_text(owner), name=xml_text(check.name), time=f"{check.seconds:.3f}"
    )
    if not check.passed:
        failure = ET.SubElement(
            case, "failure", type="parity", message=xml_text(check.failures[0] if check.failures else "not verified")
        )
        failure.text = xml_text("\n".join(check.failures))
    print_facts(case, {**(facts or {}), "measured": check.detail})


def _facts(artifact: ArtifactParity) -> dict[str, str]:
    facts = {
        "sha256": artifact.sha256,
        "device": artifact.device,
        "engine": artifact.engine,
        "threads": str(artifact.threads),
        "test_images": str(artifact.test_images),
        "edge_inputs": str(artifact.edge_inputs),
        "batch_sizes": ", ".join(str(size) for size in artifact.batch_sizes),
        "top1_agreement": "none" if artifact.top1_agreement is None else repr(artifact.top1_agreement),
        "tolerance": artifact.tolerance.model_dump_json(exclude_none=True),
    }
    return facts | {
        f"{output.output}_max_absolute": repr(output.statistics.max_absolute) for output in artifact.outputs
    }


def _properties(suite: ET.Element, values: dict[str, str]) -> None:
    properties = ET.SubElement(suite, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", name=name, value=xml_text(value))


def print_facts(case: ET.Element, values: dict[str, str]) -> None:
    """Have a test case print what was measured, ``name: value`` on a line each."""
    printed = "\n".join(f"{name}: {value}" for name, value in values.items())
    ET.SubElement(case, "system-out").text = xml_text(printed)


def xml_text(text: str) -> str:
    """Return a text without what XML 1.0 does not allow."""
    return _NOT_XML.sub("\ufffd", text)
