from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from toolkit import provenance
from toolkit.errors import FileWriteError
from toolkit.results import Check, ParityReport
from toolkit.verify.records import write_records


def report() -> ParityReport:
    return ParityReport(
        run="tiny",
        reference="nothing",
        passed=False,
        artifacts=(),
        provenance=provenance.collect(),
        checks=(Check(name="labels", passed=False, failures=("they are wrong",), detail=""),),
    )


def test_both_files_say_the_same(tmp_path: Path) -> None:
    written = report()
    write_records(written, tmp_path / "verify")
    assert ParityReport.load(tmp_path / "verify" / "parity.json", "toolkit verify") == written
    suite = ET.parse(tmp_path / "verify" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "verify").write_text("a file")
    with pytest.raises(FileWriteError):
        write_records(report(), tmp_path / "verify")
