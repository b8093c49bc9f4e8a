"""Parity verdicts as cells and lines."""

from toolkit.report.parity import parity_checks, parity_failures, parity_table


def by_header(table, line):
    return dict(zip([column.header for column in table.columns], line.cells, strict=True))


def test_verdicts(parity):
    table = parity_table(parity)
    assert [line.cells[0] for line in table.lines] == ["onnx", "torchscript", "broken"]
    assert by_header(table, table.lines[0])["verdict"] == "passed"
    assert by_header(table, table.lines[0])["rounding"] == "1.21x"
    assert by_header(table, table.lines[1]) == {
        "model": "torchscript",
        "device": "cpu",
        "verdict": "FAILED",
        "error": "1.2e-06",
        "relative": "3.0e-07",
        "rounding": "-",
        "top-1": "99.62%",
        "flips": "1/2",
    }
    assert table.lines[2].cells[3:7] == ("-", "-", "-", "-")


def test_checks_say_which_artifact_did_not_pass(parity):
    assert parity_checks(parity) == [
        "preprocessing: passed, 16 hard files",
        "compared on 256 test images and 8 edge inputs",
        "accuracy minus that of the reference, in points [95%]: onnx -0.8 [-3.0, 1.2]",
        "passed: opens 2 of 3 (not broken); outputs 1 of 3 (not torchscript, broken)",
    ]
    assert parity_checks(parity.model_copy(update={"artifacts": (), "checks": ()})) == []


def test_a_difference_of_accuracy_on_a_few_images_is_not_told(parity):
    few = tuple(artifact.model_copy(update={"test_images": 8}) for artifact in parity.artifacts)
    assert not any(line.startswith("accuracy") for line in parity_checks(parity.model_copy(update={"artifacts": few})))


def test_failures_of_the_bundle_come_before_those_of_artifacts(parity):
    bad = parity.checks[0].model_copy(update={"passed": False, "failures": ("cmyk.jpg differs",)})
    failures = parity_failures(parity.model_copy(update={"checks": (bad,)}))
    assert failures[0] == ("preprocessing", ("cmyk.jpg differs",))
    assert [owner for owner, _ in failures[1:]] == ["torchscript", "broken"]
