"""``examples/ray``: a bundle in actors of Ray."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hosts import require_passed, run_example

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra 'ray' is not installed"),
    pytest.mark.exhaustive,  # starting Ray takes as long as all other hosts together
]


def test_a_run_reproduces_its_golden_samples(finished: Path) -> None:
    done = run_example("ray", finished / "artifacts" / "small" / "bundle", RAY_BACKEND_LOG_LEVEL="fatal")
    require_passed(done, "Ray ")
