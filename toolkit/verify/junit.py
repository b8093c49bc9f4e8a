"""A parity report as JUnit XML, which CI services show as tests."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from toolkit.results import ArtifactParity, ParityReport

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Everything but the characters that XML 1.0 allows; what an engine says may hold any."""


def junit_xml(report: ParityReport) -> str:
    """Return one test suite with one test case per artifact; a failed case holds its sentences, one per line."""
    suite = ET.Element(
        "testsuite",
        name="toolkit verify",
        tests=str(len(report.artifacts)),
        failures=str(sum(not artifact.passed for artifact in report.artifacts)),
        errors="0",
        skipped="0",
        time=f"{sum(artifact.seconds for artifact in report.artifacts):.3f}",
        timestamp=report.provenance.created,
    )
    _properties(suite, {"run": report.run, "reference": report.reference, "toolkit": report.provenance.toolkit})
    for artifact in report.artifacts:
        _case(suite, artifact, report.run)
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _case(suite: ET.Element, artifact: ArtifactParity, run: str) -> None:
    name = f"{artifact.artifact} ({artifact.file})"
    case = ET.SubElement(suite, "testcase", classname=_clean(f"toolkit.verify.{run}"), name=_clean(name), time=f"{artifact.seconds:.3f}")
    facts = {
        "sha256": artifact.sha256,
        "device": artifact.device,
        "engine": artifact.engine,
        "threads": str(artifact.threads),
        "test_images": str(artifact.test_images),
        "edge_inputs": str(artifact.edge_inputs),
        "batch_sizes": ", ".join(str(size) for size in artifact.batch_sizes),
        "top1_agreement": "none" if artifact.top1_agreement is None else repr(artifact.top1_agreement),
    }
    for output in artifact.outputs:
        facts[f"{output.output}_max_absolute"] = repr(output.statistics.max_absolute)
    _properties(case, facts)
    if not artifact.passed:
        failure = ET.SubElement(case, "failure", type="parity", message=_clean(artifact.failures[0] if artifact.failures else "not verified"))
        failure.text = _clean("\n".join(artifact.failures))


def _properties(parent: ET.Element, values: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", name=name, value=_clean(value))


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
