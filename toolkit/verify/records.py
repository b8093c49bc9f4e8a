"""What is left of a verification on disk."""

from __future__ import annotations

from pathlib import Path

from toolkit.files import write_text
from toolkit.results import ParityReport
from toolkit.verify.junit import junit_xml

PARITY_NAME = "parity.json"
JUNIT_NAME = "junit.xml"


def write_records(report: ParityReport, folder: Path) -> None:
    """Write ``parity.json`` and ``junit.xml`` of a report.

    Raises:
        FileWriteError: the folder cannot be written.
    """
    report.save(folder / PARITY_NAME)
    write_text(folder / JUNIT_NAME, junit_xml(report))
