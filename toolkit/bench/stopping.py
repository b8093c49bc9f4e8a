"""When a row has been measured long enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.bench.statistics import estimate, half_width, paired_ratio
from toolkit.results import Estimate

LEAST_ROUNDS = 7
"""Before these an interval is not looked at: of fewer rounds it is only their range."""
LEAST_ROUNDS_IN_TIME = 3
"""Also where each of them takes longer than there is time."""


@dataclass(frozen=True)
class Stopping:
    """A row stops when its interval is narrow enough, when its time is up, or after the last round."""

    rounds: int
    """No row makes more."""
    max_seconds: float
    """Measured time of one row at one batch size after which it makes no further round."""
    precision: float | None
    """Half the width of the interval, relative to its middle value, that is narrow enough; None never looks."""

    def time_is_up(self, rounds: Sequence[Sequence[float]]) -> bool:
        """Say whether a row has to stop, settled or not.

        Args:
            rounds: seconds of each call of each round so far.
        """
        made = len(rounds)
        least = min(LEAST_ROUNDS_IN_TIME, self.rounds)
        return made >= self.rounds or (made >= least and sum(map(sum, rounds)) >= self.max_seconds)

    def narrow(self, own: Sequence[float], reference: Sequence[float] | None) -> bool:
        """Say whether a row may stop because its interval is narrow enough.

        Args:
            own: throughput of each of its rounds.
            reference: of the reference, whose ratio is what counts then; None where there is none, or for itself.
        """
        if len(own) < min(LEAST_ROUNDS, self.rounds):
            return False
        return bool(is_settled(estimate(own) if reference is None else paired_ratio(own, reference), self.precision))


def is_settled(value: Estimate, precision: float | None) -> bool | None:
    """Say whether an interval is narrow enough; None where nobody asked."""
    return None if precision is None else half_width(value) <= precision
