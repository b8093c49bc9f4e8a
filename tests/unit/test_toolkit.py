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
