"""The public API: few names, loaded on first use."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import toolkit
from toolkit.bundle import Bundle
from toolkit.runtime import Prediction, Predictor, load


def test_every_public_name_is_the_one_of_its_module() -> None:
    assert (toolkit.Bundle, toolkit.Prediction, toolkit.Predictor, toolkit.load) == (
        Bundle,
        Prediction,
        Predictor,
        load,
    )
    assert dir(toolkit) == sorted(toolkit.__all__)


def test_the_version_is_a_release() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", toolkit.__version__)


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'toolkit' has no attribute 'nothing'"):
        _ = toolkit.nothing


def test_importing_it_is_cheap() -> None:
    program = "import sys, toolkit; print([name for name in sys.modules if name.startswith(('toolkit.', 'numpy'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def in_new_process(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_runtime_builds_no_record_and_imports_no_engine() -> None:
    program = """
import sys, toolkit.runtime
from toolkit.results import Record
records = [Record]
for record in records:
    records += record.__subclasses__()
assert len(records) > 50
print(sorted(record.__name__ for record in records if record.__pydantic_complete__))
from toolkit.preprocess import Preprocessing
print(Preprocessing.__pydantic_complete__)
heavy = {"onnxruntime", "typer", "rich", "jinja2", "toolkit.recipe", "toolkit.cli", "toolkit.compare.tolerances"}
print(sorted(heavy & sys.modules.keys()))
"""
    assert in_new_process(program).splitlines() == ["[]", "False", "[]"]
