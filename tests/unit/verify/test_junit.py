from __future__ import annotations

from xml.etree import ElementTree as ET

from toolkit import provenance
from toolkit.compare.tolerances import TOLERANCES
from toolkit.results import ArtifactParity, ErrorStatistics, OutputParity, ParityReport
from toolkit.verify.junit import junit_xml


def artifact(name: str, failures: tuple[str, ...]) -> ArtifactParity:
    statistics = ErrorStatistics(elements=1, max_absolute=0.25, mean_absolute=0, p99_absolute=0, max_relative=0, min_cosine=1)
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
    return ParityReport(run="digits", reference="torch", passed=passed, artifacts=artifacts, provenance=provenance.collect())


def test_one_case_per_artifact_with_its_sentences() -> None:
    suite = ET.fromstring(junit_xml(report(artifact("onnx", ()), artifact("torchscript", ("logits differ", "class <a> & b changes")))))
    assert suite.tag == "testsuite"
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "time")} == {"tests": "2", "failures": "1", "errors": "0", "time": "2.500"}
    good, bad = suite.findall("testcase")
    assert (good.get("name"), good.get("classname"), good.get("time")) == ("onnx (model.onnx)", "toolkit.verify.digits", "1.250")
    assert good.find("failure") is None
    (failure,) = bad.findall("failure")
    assert failure.get("message") == "logits differ"
    assert (failure.text or "").splitlines() == ["logits differ", "class <a> & b changes"]
    facts = {entry.get("name"): entry.get("value") for entry in good.iter("property")}
    assert facts["batch_sizes"] == "1, 3, 32"
    assert facts["logits_max_absolute"] == "0.25"
    assert facts["top1_agreement"] == "none"
    assert {entry.get("name") for entry in suite.findall("properties/property")} == {"run", "reference", "toolkit"}


def test_characters_that_xml_forbids_do_not_break_the_file() -> None:
    text = junit_xml(report(artifact("onnx", ("engine said \x00\x1b[31m\ud800 and stopped",))))
    failure = ET.fromstring(text.encode()).find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "engine said \ufffd\ufffd[31m\ufffd and stopped"
