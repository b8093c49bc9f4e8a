"""Who is told of nothing: for where no metrics are wanted."""

from __future__ import annotations

from toolkit.serving.interface import Answered, Phase


class Quiet:
    """A ``toolkit.serving.interface.Observer`` that does nothing."""

    def request(self, answered: Answered) -> None:
        """Do nothing."""

    def phase(self, model: str, version: str, phase: Phase, seconds: float) -> None:
        """Do nothing."""

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """Do nothing."""

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """Do nothing."""

    def queued(self, model: str, version: str, images: int) -> None:
        """Do nothing."""
