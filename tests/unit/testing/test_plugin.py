"""The plug-in as another project gets it.

Pytest in a process of its own, with nothing of these tests' configuration.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

TESTS = """
import numpy as np


def test_good(assert_parity):
    assert_parity(lambda x: x, lambda x: {"same": x + np.float32(1e-5)}, np.ones((2, 3), np.float32))


def test_bad(assert_parity):
    assert_parity(lambda x: x, lambda x: x * 2, np.ones((2, 3), np.float32))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Where toolkit is installed with its entry point, that is left out: the plug-in is the one of this tree.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:toolkit", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_fixture_asserts_and_writes_what_it_measured_into_the_report(tmp_path: Path) -> None:
    (tmp_path / "test_model.py").write_text(TESTS)
    done = run(tmp_path, "-p", "toolkit.testing.plugin", "--junit-xml", "junit.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert (
        "output '0' differs at [0, 0]: reference 1.0, artifact 2.0, error 1, allowed 0.0011; 6 of 6 elements are "
        "outside" in done.stdout
    )
    cases = {case.get("name"): case for case in ET.parse(tmp_path / "junit.xml").getroot().iter("testcase")}
    measured = {entry.get("name"): float(entry.get("value") or "nan") for entry in cases["test_good"].iter("property")}
    assert set(measured) == {"same_max_absolute", "same_max_relative"}
    assert 0.9e-5 < measured["same_max_absolute"] < 1.1e-5


def test_loading_the_plug_in_imports_nothing_heavy() -> None:
    program = (
        "import sys, toolkit.testing.plugin; print([name for name in ('numpy', 'torch', 'pydantic', 'onnxruntime') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_entry_point_names_the_plug_in() -> None:
    configuration = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\ntoolkit = "toolkit.testing.plugin"' in configuration
