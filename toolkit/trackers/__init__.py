"""Trackers of experiments: what a run finds out, also written to where a team looks. One file per tracker."""

from toolkit.trackers.registry import require_trackers, trackers
from toolkit.trackers.tracking import Following, track

__all__ = ["Following", "require_trackers", "track", "trackers"]
