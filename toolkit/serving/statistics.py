"""What each version of a model has done so far, in the form of the protocol's statistics extension.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from toolkit.serving.interface import Answered, Phase

_PHASES: dict[Phase, str] = {"queue": "queue", "decode": "compute_input", "compute": "compute_infer"}
"""A phase to its name in the protocol."""


@dataclass
class _Duration:
    count: int = 0
    nanoseconds: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.nanoseconds += round(seconds * 1e9)

    def shown(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.nanoseconds}


@dataclass
class _Counts:
    """Of one version."""

    last_inference: int = 0
    images: int = 0
    success: _Duration = field(default_factory=_Duration)
    fail: _Duration = field(default_factory=_Duration)
    phases: defaultdict[str, _Duration] = field(default_factory=lambda: defaultdict(_Duration))
    batches: defaultdict[int, _Duration] = field(default_factory=lambda: defaultdict(_Duration))


class Statistics:
    """An observer that counts for the protocol's statistics extension.

    Requests that no version answered (a name that there is not, a full queue) belong to none and are not counted here;
    the metrics have them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # engines tell from threads of their own
        self._versions: dict[tuple[str, str], _Counts] = {}

    def request(self, answered: Answered) -> None:
        """Count a request that a version answered."""
        if not answered.version:
            return
        with self._lock:
            counts = self._counts(answered.model, answered.version)
            if answered.refusal is None:
                counts.success.add(answered.seconds)
                counts.last_inference = round(self._clock() * 1000)
            else:
                counts.fail.add(answered.seconds)

    def phase(self, model: str, version: str, phase: Phase, seconds: float) -> None:
        """Add to the time of a phase."""
        with self._lock:
            self._counts(model, version).phases[_PHASES[phase]].add(seconds)

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Count a call of the engine."""
        with self._lock:
            counts = self._counts(model, version)
            counts.images += images
            counts.batches[images].add(seconds)

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """Nothing: the protocol counts no classes."""

    def queued(self, model: str, version: str, images: int) -> None:
        """Nothing: the protocol does not ask for it."""

    def of(self, name: str, version: str) -> dict[str, Any]:
        """Return the statistics of a version; zeros where nothing has happened yet.

        Nobody measures how long outputs are written for, so ``compute_output`` counts nothing, and there is no cache.
        """
        nothing = _Duration().shown()
        with self._lock:
            counts = self._versions.get((name, version), _Counts())
            phases = {called: counts.phases.get(called, _Duration()).shown() for called in _PHASES.values()}
            return {
                "name": name,
                "version": version,
                "last_inference": counts.last_inference,
                "inference_count": counts.images,
                "execution_count": sum(batch.count for batch in counts.batches.values()),
                "inference_stats": {
                    "success": counts.success.shown(),
                    "fail": counts.fail.shown(),
                    **phases,
                    "compute_output": nothing,
                    "cache_hit": nothing,
                    "cache_miss": nothing,
                },
                "batch_stats": [
                    {
                        "batch_size": size,
                        "compute_input": nothing,
                        "compute_infer": counts.batches[size].shown(),
                        "compute_output": nothing,
                    }
                    for size in sorted(counts.batches)
                ],
            }

    def _counts(self, model: str, version: str) -> _Counts:
        return self._versions.setdefault((model, version), _Counts())
