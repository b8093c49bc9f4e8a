"""Metrics for Prometheus, at ``/metrics``.

What a client may choose freely never becomes a label: a name that no model has is counted under the empty name, and
classes beyond a number are counted together. So memory and the page of metrics stay bounded whatever is asked.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
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
from prometheus_client.metrics import MetricWrapperBase
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from toolkit.serving.interface import Answered, Models, Phase
from toolkit.serving.observers import outcome_of

LOW_CONFIDENCE = 0.5
"""An image whose most probable class has less is counted as one of low confidence."""
MOST_CLASSES = 1000
"""Of one version that are counted by name."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


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
        self._classes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._seen: set[tuple[str, str]] = set()
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
        model = self._known(answered.model)
        self._requests.labels(model, answered.protocol, outcome_of(answered)).inc()
        if answered.refusal is None:
            self._request_seconds.labels(model, answered.protocol).observe(answered.seconds)

    def phase(self, model: str, version: str, phase: Phase, seconds: float) -> None:
        """Add a phase of a request."""
        self._seen.add((model, version))
        self._phase_seconds.labels(model, version, phase).observe(seconds)

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Add a call of the engine."""
        self._seen.add((model, version))
        self._batch_images.labels(model, version).observe(images)
        self._engine_seconds.labels(model, version).inc(seconds)

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """Count an image by its class, and whether the model is sure of it."""
        self._seen.add((model, version))
        seen = self._classes[model, version]
        if label not in seen:
            if len(seen) < self._most_classes:
                seen.add(label)
            else:
                label = ""
        self._predictions.labels(model, version, label).inc()
        low = self._low.labels(model, version)  # with the first image, so that a share can be taken before there is one
        if probability < self._low_confidence:
            low.inc()

    def queued(self, model: str, version: str, images: int) -> None:
        """Set how many images there are."""
        self._seen.add((model, version))
        self._queued.labels(model, version).set(images)

    def routes(self) -> list[BaseRoute]:
        """Return ``GET /metrics``, in the format that is asked for: Prometheus's text or OpenMetrics."""

        async def metrics(request: Request) -> Response:
            self._look_at_models()
            encode, media_type = choose_encoder(request.headers.get("accept", ""))
            # Thousands of classes take tens of milliseconds, in which requests would wait.
            return Response(await run_in_threadpool(encode, self.registry), media_type=media_type)

        return [Route("/metrics", metrics, methods=["GET"])]

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
        absent = set(self._seen) - listed
        for of_version in absent & self._gone:
            self._forget(*of_version)
        for model, version in self._listed - listed:
            self._ready.remove(model, version)
        self._listed, self._gone = listed, absent - self._gone

    def _forget(self, model: str, version: str) -> None:
        """Drop everything that was counted of a version."""
        self._seen.discard((model, version))
        classes = self._classes.pop((model, version), set())
        further: dict[MetricWrapperBase, Iterable[str]] = {
            self._phase_seconds: get_args(Phase),
            self._predictions: (*classes, ""),
        }
        for metric, values in further.items():
            for value in values:
                _remove(metric, model, version, value)
        for metric in (self._batch_images, self._engine_seconds, self._queued, self._low):
            _remove(metric, model, version)


def _remove(metric: MetricWrapperBase, *labels: str) -> None:
    with contextlib.suppress(KeyError):  # of labels that were never counted
        metric.remove(*labels)
