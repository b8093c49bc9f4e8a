"""Several observers as one, none of which can harm a request."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from toolkit.serving.interface import Answered, Observer, Phase

_logger = logging.getLogger(__name__)
_INNER_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def outcome_of(answered: Answered) -> str:
    """Return what became of a request: ``ok``, or the kind of its refusal as in ``unreadable_image``."""
    if answered.refusal is None:
        return "ok"
    return _INNER_CAPITAL.sub("_", type(answered.refusal).__name__).lower()


class Indifferent:
    """An observer that cares for nothing. One that cares for something derives from it, and is told of that alone."""

    def request(self, answered: Answered) -> None:
        """Nothing."""

    def phases(self, model: str, version: str, seconds: Mapping[Phase, float]) -> None:
        """Nothing."""

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Nothing."""

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """Nothing."""

    def queued(self, model: str, version: str, images: int) -> None:
        """Nothing."""


class Observers:
    """Tells several observers of everything that they care for, in their order.

    What one of them raises is logged, the first time with its traceback, and goes no further: neither the request nor
    the observers behind it are told.
    """

    def __init__(self, *observers: Observer) -> None:
        self._request, self._phases, self._batch, self._predicted, self._queued = (
            [one for one in observers if getattr(type(one), told, None) is not getattr(Indifferent, told)]
            for told in ("request", "phases", "batch", "predicted", "queued")
        )
        self._failed: set[tuple[int, str]] = set()

    def request(self, answered: Answered) -> None:
        """Tell of a request that was answered."""
        for observer in self._request:
            try:
                observer.request(answered)
            except Exception:
                self._say(observer, "request")

    def phases(self, model: str, version: str, seconds: Mapping[Phase, float]) -> None:
        """Tell of the phases of a request."""
        for observer in self._phases:
            try:
                observer.phases(model, version, seconds)
            except Exception:
                self._say(observer, "phase")

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Tell of a batch that was computed."""
        for observer in self._batch:
            try:
                observer.batch(model, version, images, seconds)
            except Exception:
                self._say(observer, "batch")

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """Tell of an image that was classified."""
        for observer in self._predicted:
            try:
                observer.predicted(model, version, label, probability)
            except Exception:
                self._say(observer, "prediction")

    def queued(self, model: str, version: str, images: int) -> None:
        """Tell how many images wait or are computed."""
        for observer in self._queued:
            try:
                observer.queued(model, version, images)
            except Exception:
                self._say(observer, "queue")

    def _say(self, observer: Observer, told: str) -> None:
        """Log the exception that is being handled, once for each observer and what it was told."""
        if (id(observer), told) not in self._failed:
            self._failed.add((id(observer), told))
            name = type(observer).__name__
            _logger.exception("%s failed when it was told of a %s; it is said this once.", name, told)
