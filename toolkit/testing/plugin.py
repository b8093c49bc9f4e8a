"""The pytest plug-in: a fixture. Imports nothing heavy before a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(name="assert_parity")
def assert_parity_fixture(record_property: Callable[[str, object], None]) -> Callable[..., Any]:
    """Return ``toolkit.testing.assert_parity``.

    What it measures is written to the test's properties, which JUnit reports hold.
    """
    from toolkit.testing.parity import assert_parity

    def measured(*arguments: Any, **named: Any) -> Any:
        errors = assert_parity(*arguments, **named)
        for output, statistics in errors.items():
            record_property(f"{output}_max_absolute", statistics.max_absolute)
            record_property(f"{output}_max_relative", statistics.max_relative)
        return errors

    return measured
