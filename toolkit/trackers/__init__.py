"""Trackers of experiments: what a run finds out, also written to where a team looks. One file per tracker."""

from toolkit.trackers.registry import require_trackers, trackers
from toolkit.trackers.tracking import following, track

__all__ = ["following", "require_trackers", "track", "trackers"]
