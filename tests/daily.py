"""Which cases of a test that goes through all of something run in daily work too; the others need ``make test-all``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def daily(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """Return the cases of a parametrised test or fixture, all but ``kept`` marked as exhaustive."""
    cases = list(cases)
    assert set(kept) <= set(cases), "a case to keep that is none"
    return [case if case in kept else _exhaustive(case) for case in cases]


def _exhaustive(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.exhaustive)
