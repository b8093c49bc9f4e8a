"""Reports: the verdict is the exit code, and nothing tells where they were measured."""

import json

import pytest

from benchmarks.harness.report import Claim, Report, Table, finish


@pytest.fixture
def report():
    def make(*met):
        claims = [Claim("claimed", "measured", value) for value in met]
        return Report(
            "sample",
            "A sample",
            {"images": 3},
            claims,
            [Table(("a", "b"), [("1", "x|y")])],
            ["a note"],
            {"seconds": 1.5},
        )

    return make


@pytest.mark.parametrize(("met", "code"), [((True, True), 0), ((True, False), 1)])
def test_exit_code_is_the_verdict(report, tmp_path, met, code):
    assert finish(report(*met), tmp_path, ["--data", "/home/somebody/images"]) == code
    content = json.loads((tmp_path / "sample.json").read_text(encoding="utf-8"))
    assert [claim["met"] for claim in content["claims"]] == list(met)
    assert (content["settings"], content["measurements"]) == ({"images": 3}, {"seconds": 1.5})
    assert content["provenance"]["hardware"]["cores"] >= 1
    assert content["command"] == "python -m benchmarks.sample --data .../images"
    text = (tmp_path / "sample.md").read_text(encoding="utf-8")
    assert "| 1 | x\\|y |" in text
    assert ("NOT MET" in text) is not all(met)
    assert "somebody" not in text + json.dumps(content)
