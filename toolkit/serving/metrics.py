"""Metrics for Prometheus, at ``/metrics``.

What a client may choose freely never becomes a label: a name that no model has is counted under the empty name, and
classes beyond a number are counted together. So memory and the page of metrics stay bounded whatever is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from toolkit.serving.interface import Answered, Models, Phase
from toolkit.serving.observers import outcome_of
from toolkit.serving.routing import Route

LOW_CONFIDENCE = 0.5
"""An image whose most probable class has less is counted as one of low confidence."""
MOST_CLASSES = 1000
"""Of one version that are counted by name."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class _Counted:
    """The metrics of one version of a model; those of its classes by their label."""

    phases: dict[Phase, Histogram]
    batch_images: Histogram
    engine_seconds: Counter
    queued: Gauge
    low: Counter
    classes: dict[str, Counter] = field(default_factory=dict)


class Metrics:
    """An observer that counts for Prometheus.

    Attributes:
        models: where names and states are looked up; None until the models exist, which are told of this observer.
        registry: of the metrics; one of its own, so that several servers in a process do not share theirs.
    """

    def __init__(self, low_confidence: float = LOW_CONFIDENCE, most_classes: int = MOST_CLASSES) -> None:
        self.models: Models | None = None
        self.registry = CollectorRegistry()
        self._low_confidence = low_confidence
        self._most_classes = most_classes
        self._names: set[str] = set()
        # Looking a metric up by its labels takes three times as long as counting with it.
        self._answered: dict[tuple[str, str, str], Counter] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}
        self._versions: dict[tuple[str, str], _Counted] = {}
        self._listed: set[tuple[str, str]] = set()
        self._gone: set[tuple[str, str]] = set()
        # When each of them began to count, which would double their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._define()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def _define(self) -> None:
        version, registry = ("model", "version"), self.registry
        self._requests = Counter(
            "toolkit_requests",
            "Requests that were answered. outcome: ok, or what the request was refused with. model: empty for a name "
            "that no model has.",
            ("model", "protocol", "outcome"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "toolkit_request_seconds",
            "Seconds from the arrival of a request to its result; requests that were refused are left out.",
            ("model", "protocol"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._phase_seconds = Histogram(
            "toolkit_phase_seconds",
            "Seconds of the phases of a request: queue, decode and compute.",
            (*version, "phase"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch_images = Histogram(
            "toolkit_batch_images",
            "Images in a call of the engine; the sum is all images that were computed.",
            version,
            buckets=_IMAGES,
            registry=registry,
        )
        self._engine_seconds = Counter(
            "toolkit_engine_busy_seconds", "Seconds that the engine computed.", version, registry=registry
        )
        self._queued = Gauge(
            "toolkit_queued_images", "Images that wait or are computed now.", version, registry=registry
        )
        self._predictions = Counter(
            "toolkit_predictions",
            f"Images by their most probable class. label: empty for classes beyond the first {self._most_classes} "
            "that were seen.",
            (*version, "label"),
            registry=registry,
        )
        self._low = Counter(
            "toolkit_low_confidence",
            "Images whose most probable class has less than toolkit_low_confidence_threshold.",
            version,
            registry=registry,
        )
        Gauge(
            "toolkit_low_confidence_threshold",
            "The probability below which an image is one of low confidence.",
            registry=registry,
        ).set(self._low_confidence)
        self._ready = Gauge(
            "toolkit_model_ready", "1 where a version takes requests, 0 where it does not.", version, registry=registry
        )

    def request(self, answered: Answered) -> None:
        """Count a request, and its time if it has a result."""
        of_kind = (self._known(answered.model), answered.protocol, outcome_of(answered))
        counter = self._answered.get(of_kind)
        if counter is None:
            counter = self._answered[of_kind] = self._requests.labels(*of_kind)
        counter.inc()
        if answered.refusal is None:
            seconds = self._seconds.get(of_kind[:2])
            if seconds is None:
                seconds = self._seconds[of_kind[:2]] = self._request_seconds.labels(*of_kind[:2])
            seconds.observe(answered.seconds)

    def phases(self, model: str, version: str, seconds: Mapping[Phase, float]) -> None:
        """Add the phases of a request."""
        histograms = self._of(model, version).phases
        for phase, spent in seconds.items():
            histograms[phase].observe(spent)

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Add a call of the engine."""
        counted = self._of(model, version)
        counted.batch_images.observe(images)
        counted.engine_seconds.inc(seconds)

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """Count an image by its class, and whether the model is sure of it."""
        counted = self._of(model, version)
        classes = counted.classes
        if label not in classes:
            label = label if len(classes) < self._most_classes else ""
            classes[label] = self._predictions.labels(model, version, label)
        classes[label].inc()
        if probability < self._low_confidence:
            counted.low.inc()

    def queued(self, model: str, version: str, images: int) -> None:
        """Set how many images there are."""
        self._of(model, version).queued.set(images)

    def routes(self) -> list[Route]:
        """Return ``GET /metrics``, in the format that is asked for: Prometheus's text or OpenMetrics."""

        async def metrics(request: Request) -> Response:
            self._look_at_models()
            encode, media_type = choose_encoder(request.headers.get("accept", ""))
            # Thousands of classes take tens of milliseconds, in which requests would wait.
            return Response(await run_in_threadpool(encode, self.registry), media_type=media_type)

        return [Route("GET", "/metrics", metrics)]

    def _known(self, name: str) -> str:
        """Return a name if a model has it, else the empty one."""
        if name in self._names:
            return name
        if self.models is not None:
            self._names.update(state.name for state in self.models.index())
        return name if name in self._names else ""

    def _look_at_models(self) -> None:
        """Say which versions are ready, and forget those that there are no more.

        What was counted of a version that is gone is shown once more, so that nothing of it is lost to Prometheus.
        """
        if self.models is None:
            return
        index = self.models.index()
        listed = {(state.name, state.version) for state in index}
        for state in index:
            self._ready.labels(state.name, state.version).set(state.state == "READY")
        absent = set(self._versions) - listed
        for of_version in absent & self._gone:
            self._forget(*of_version)
        for model, version in self._listed - listed:
            self._ready.remove(model, version)
        self._listed, self._gone = listed, absent - self._gone

    def _of(self, model: str, version: str) -> _Counted:
        """Return what is counted of a version."""
        found = self._versions.get((model, version))
        if found is None:
            found = self._versions[model, version] = _Counted(
                {phase: self._phase_seconds.labels(model, version, phase) for phase in get_args(Phase)},
                self._batch_images.labels(model, version),
                self._engine_seconds.labels(model, version),
                self._queued.labels(model, version),
                self._low.labels(model, version),
            )
        return found

    def _forget(self, model: str, version: str) -> None:
        """Drop everything that was counted of a version."""
        counted = self._versions.pop((model, version))
        for phase in counted.phases:
            self._phase_seconds.remove(model, version, phase)
        for label in counted.classes:
            self._predictions.remove(model, version, label)
        for metric in (self._batch_images, self._engine_seconds, self._queued, self._low):
            metric.remove(model, version)
