from __future__ import annotations

from xml.etree import ElementTree as ET

from junit_schema import require_fit

from toolkit import provenance
from toolkit.compare.tolerances import TOLERANCES
from toolkit.results import ArtifactParity, Check, ErrorStatistics, OutputParity, ParityReport, Tolerance
from toolkit.verify.junit import junit_xml


def artifact(name: str, failures: tuple[str, ...]) -> ArtifactParity:
    statistics = ErrorStatistics(
        elements=1, max_absolute=0.25, mean_absolute=0, p99_absolute=0, max_relative=0, min_cosine=1
    )
    return ArtifactParity(
        artifact=name,
        file=f"model.{name}",
        sha256="b" * 64,
        passed=not failures,
        failures=failures,
        device="cpu",
        engine="engine 1.2",
        threads=2,
        test_images=5,
        edge_inputs=3,
        batch_sizes=(1, 3, 32),
        outputs=(OutputParity(output="logits", statistics=statistics),),
        top1_agreement=None,
        flips=(),
        tolerance=TOLERANCES["float32"],
        seconds=1.25,
    )


def report(*artifacts: ArtifactParity) -> ParityReport:
    passed = all(one.passed for one in artifacts)
    return ParityReport(
        run="digits", reference="torch", passed=passed, artifacts=artifacts, provenance=provenance.collect()
    )


def parsed(of: ParityReport) -> ET.Element:
    text = junit_xml(of)
    require_fit(text)
    return ET.fromstring(text)


def test_one_case_per_check_of_the_bundle_and_of_each_artifact() -> None:
    checks = (
        Check(name="opens", passed=True, failures=(), detail="engine 1.2 on cpu", seconds=0.5),
        Check(
            name="outputs",
            passed=False,
            failures=("logits differ", "class <a> & b changes"),
            detail="largest errors",
            seconds=0.75,
        ),
    )
    bad = artifact("onnx", ("logits differ", "class <a> & b changes")).model_copy(update={"checks": checks})
    whole = Check(name="preprocessing", passed=True, failures=(), detail="16 hard files", seconds=0.25)
    suite = parsed(report(bad).model_copy(update={"checks": (whole,), "not_judged": {"model.xml": "no engine"}}))
    assert suite.tag == "testsuite"
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "time")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "time": "1.500",
    }
    cases = suite.findall("testcase")
    assert [(case.get("classname"), case.get("name"), case.get("time")) for case in cases] == [
        ("toolkit.verify.digits", "preprocessing", "0.250"),
        ("toolkit.verify.digits.model.onnx", "opens", "0.500"),
        ("toolkit.verify.digits.model.onnx", "outputs", "0.750"),
        ("toolkit.verify.digits.model.xml", "opens", "0.000"),
    ]
    assert [case.find("failure") is not None for case in cases] == [False, False, True, False]
    (failure,) = cases[2].findall("failure")
    assert failure.get("message") == "logits differ"
    assert (failure.text or "").splitlines() == ["logits differ", "class <a> & b changes"]
    lines = (cases[1].findtext("system-out") or "").splitlines()
    facts = dict(line.split(": ", 1) for line in lines)
    assert facts["batch_sizes"] == "1, 3, 32"
    assert facts["logits_max_absolute"] == "0.25"
    assert facts["top1_agreement"] == "none"
    assert facts["measured"] == "engine 1.2 on cpu"
    assert Tolerance.from_json(facts["tolerance"]) == TOLERANCES["float32"]
    assert {entry.get("name") for entry in suite.findall("properties/property")} == {"run", "reference", "toolkit"}


def test_a_record_without_checks_is_one_case_per_artifact() -> None:
    suite = parsed(report(artifact("onnx", ()), artifact("torchscript", ("logits differ",))))
    assert [(case.get("name"), case.get("time")) for case in suite.findall("testcase")] == [
        ("parity", "1.250"),
        ("parity", "1.250"),
    ]
    assert suite.get("failures") == "1"


def test_characters_that_xml_forbids_do_not_break_the_file() -> None:
    text = junit_xml(report(artifact("onnx", ("engine said \x00\x1b[31m\ud800 and stopped",))))
    failure = ET.fromstring(text.encode()).find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "engine said \ufffd\ufffd[31m\ufffd and stopped"
