"""What each version of a model has done so far, in the form of the protocol's statistics extension.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.serving.interface import Answered, Phase
from toolkit.serving.observers import Indifferent

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


class Statistics(Indifferent):
    """An observer that counts for the protocol's statistics extension.

    Requests that no version answered (a name that there is not, a full queue) belong to none and are not counted here;
    the metrics have them.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # engines tell from threads of their own
        self._versions: defaultdict[tuple[str, str], _Counts] = defaultdict(_Counts)

    def request(self, answered: Answered) -> None:
        """Count a request that a version answered."""
        if not answered.version:
            return
        with self._lock:
            counts = self._versions[answered.model, answered.version]
            if answered.refusal is None:
                counts.success.add(answered.seconds)
                counts.last_inference = round(self._clock() * 1000)
            else:
                counts.fail.add(answered.seconds)

    def phases(self, model: str, version: str, seconds: Mapping[Phase, float]) -> None:
        """Add the phases of a request to the times of theirs."""
        with self._lock:
            counted = self._versions[model, version].phases
            for phase, spent in seconds.items():
                counted[_PHASES[phase]].add(spent)

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Count a call of the engine."""
        with self._lock:
            counts = self._versions[model, version]
            counts.images += images
            counts.batches[images].add(seconds)

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
