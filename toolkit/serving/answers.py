"""What is sent over HTTP: JSON, and refusals as ``{"error": ...}``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from toolkit.serving.refusals import Refusal, Unauthorized

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: ``json.dumps`` makes one for each call."""


class JsonResponse(Response):
    """JSON, without a number that JSON does not have."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write it."""
        return _ENCODER.encode(content).encode("utf-8", "replace")  # half a character, as a file's name may hold


def refused(refusal: Refusal, further: Mapping[str, Any] | None = None) -> JsonResponse:
    """Return the answer to a request that gets no result.

    Args:
        refusal: why.
        further: what else is said.
    """
    headers = {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after)))
    if isinstance(refusal, Unauthorized):
        headers["www-authenticate"] = 'Bearer realm="toolkit"'
    return JsonResponse({"error": str(refusal), **(further or {})}, status_code=refusal.http, headers=headers)
