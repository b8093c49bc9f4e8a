"""How tests try inputs that nobody thought of: the same ones each time, few enough for a daily run.

``FUZZ_EXAMPLES=20000 pytest tests/unit/... -k fuzz`` tries others, and many.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_MANY = os.environ.get("FUZZ_EXAMPLES")
FUZZ = settings(
    max_examples=int(_MANY or 80),
    derandomize=_MANY is None,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
