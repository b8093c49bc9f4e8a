"""Several observers as one, none of which can harm a request."""

from __future__ import annotations

import logging
import re

from toolkit.serving.interface import Answered, Observer, Phase

_logger = logging.getLogger(__name__)
_INNER_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def outcome_of(answered: Answered) -> str:
    """Return what became of a request: ``ok``, or the kind of its refusal as in ``unreadable_image``."""
    if answered.refusal is None:
        return "ok"
    return _INNER_CAPITAL.sub("_", type(answered.refusal).__name__).lower()


class Observers:
    """Tells several observers of everything, in their order.

    What one of them raises is logged, the first time with its traceback, and goes no further: neither the request nor
    the observers behind it are told.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self._failed: set[tuple[int, str]] = set()

    def request(self, answered: Answered) -> None:
        """Tell of a request that was answered."""
        for position, observer in enumerate(self._observers):
            try:
                observer.request(answered)
            except Exception:
                self._say(position, "request")

    def phase(self, model: str, version: str, phase: Phase, seconds: float) -> None:
        """Tell of a phase of a request."""
        for position, observer in enumerate(self._observers):
            try:
                observer.phase(model, version, phase, seconds)
            except Exception:
                self._say(position, "phase")

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Tell of a batch that was computed."""
        for position, observer in enumerate(self._observers):
            try:
                observer.batch(model, version, images, seconds)
            except Exception:
                self._say(position, "batch")

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """Tell of an image that was classified."""
        for position, observer in enumerate(self._observers):
            try:
                observer.predicted(model, version, label, probability)
            except Exception:
                self._say(position, "predicted")

    def queued(self, model: str, version: str, images: int) -> None:
        """Tell how many images wait or are computed."""
        for position, observer in enumerate(self._observers):
            try:
                observer.queued(model, version, images)
            except Exception:
                self._say(position, "queued")

    def _say(self, position: int, told: str) -> None:
        """Log the exception that is being handled, once for each observer and what it was told."""
        if (position, told) not in self._failed:
            self._failed.add((position, told))
            name = type(self._observers[position]).__name__
            _logger.exception("%s failed when it was told of a %s; it is said this once.", name, told)
