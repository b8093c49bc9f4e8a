"""Which trackers there are.

Those of the package, and those that other packages add by the entry point ``toolkit.trackers``.

An entry point names a class without arguments that implements ``trackers.base.Tracker``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points

from toolkit.errors import MissingDependencyError, TrackerError, first_line, raise_interruption
from toolkit.plugins import Kind, with_plugins
from toolkit.printable import without_credentials
from toolkit.progress import Reporter, Silent, working
from toolkit.trackers.base import Tracker
from toolkit.trackers.mlflow import MlflowTracker
from toolkit.trackers.tensorboard import TensorBoardTracker

ENTRY_POINT = "toolkit.trackers"
OWN = (TensorBoardTracker, MlflowTracker)
KIND = Kind(
    name="tracker",
    protocol="toolkit.trackers.base.Tracker",
    required=("name", "title", "unavailable", "open"),
    error=TrackerError,
)


@cache
def trackers() -> dict[str, Tracker]:
    """Return every tracker by name, the package's own first.

    Raises:
        TrackerError: a tracker of another package cannot be loaded, lacks something, or takes a name that exists.
    """
    return with_plugins((own() for own in OWN), entry_points(group=ENTRY_POINT), KIND)


def usable(name: str) -> Tracker:
    """Return a tracker by name.

    Raises:
        TrackerError: there is none of that name, and the message lists those there are; or it fails where it should
            say whether it can be used.
        MissingDependencyError: what it needs is not installed.
    """
    known = trackers()
    if name not in known:
        raise TrackerError(f"there is no tracker {name!r}; trackers here are {', '.join(known)}.")
    try:
        reason = known[name].unavailable()
    except (Exception, SystemExit) as failure:  # code of another package, which may raise anything
        raise_interruption(failure)
        said = without_credentials(first_line(failure))
        raise TrackerError(
            f"the tracker {name!r} cannot be used ({said}): update or uninstall the package that has it."
        ) from failure
    if reason is not None:
        raise MissingDependencyError(f"{reason}.")
    return known[name]


def require_trackers(names: Sequence[str], reporter: Reporter | None = None) -> None:
    """Refuse trackers that cannot be used, before the work that they are to follow.

    Args:
        names: of the trackers.
        reporter: shows that packages are being loaded, which those of others may take their time for.

    Raises:
        TrackerError: see ``usable``.
        MissingDependencyError: see ``usable``.
    """
    if names:
        with working(reporter or Silent(), "loading trackers"):
            for name in names:
                usable(name)
