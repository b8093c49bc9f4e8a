"""How many processors a container's limit leaves to this process (Linux control groups, versions 1 and 2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

V1, V2 = "cgroup", "cgroup2"


@dataclass(frozen=True)
class _Mount:
    """A hierarchy of groups in the file system, as a line of ``/proc/self/mountinfo`` tells it (``man 5 proc``)."""

    version: str
    group: str
    """Which group stands at ``place``: the container's own where only that one is mounted."""
    place: Path


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many processors this process may use on average; None where nothing limits it.

    A group is held by the limits of all groups it stands in, so the smallest counts.

    Args:
        root: where ``proc`` is, and what mount points are relative to; tests give another one.
    """
    limits = []
    try:
        groups = _own_groups(_read(root / "proc/self/cgroup"))
        for mount in _mounts(_read(root / "proc/self/mountinfo"), root):
            if mount.version in groups:
                limits += [limit for folder in _folders(mount, groups[mount.version]) if (limit := _limit(folder))]
    except (OSError, ValueError):
        return None  # what cannot be read limits nothing
    return min(limits, default=None)


@dataclass(frozen=True)
class Throttling:
    """How often a limit has run out since the group was made."""

    periods: int
    """In which anything of the group wanted to compute."""
    throttled: int
    """Of these, in how many it had to wait for the next one."""


def throttling(root: Path = Path("/")) -> Throttling | None:
    """Return how often the limits of this process's groups ran out, of the group where that happened most.

    None where nothing limits it, or the system does not tell.

    Args:
        root: see ``cpu_quota``.
    """
    found = []
    try:
        groups = _own_groups(_read(root / "proc/self/cgroup"))
        for mount in _mounts(_read(root / "proc/self/mountinfo"), root):
            if mount.version in groups:
                found += [_throttling(folder) for folder in _folders(mount, groups[mount.version]) if _limit(folder)]
    except (OSError, ValueError):
        return None
    return max((one for one in found if one is not None), key=lambda one: one.throttled, default=None)


def _throttling(folder: Path) -> Throttling | None:
    try:
        counts = dict(line.split()[:2] for line in _read(folder / "cpu.stat").splitlines() if len(line.split()) == 2)
        return Throttling(int(counts["nr_periods"]), int(counts["nr_throttled"]))
    except (OSError, ValueError, KeyError):
        return None


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _own_groups(text: str) -> dict[str, str]:
    """Return the group of this process in the hierarchy of version 2, and in the one of version 1 that limits CPUs."""
    groups = {}
    for line in text.splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0" and not controllers:
            groups[V2] = group
        elif "cpu" in controllers.split(","):
            groups[V1] = group
    return groups


def _mounts(text: str, root: Path) -> Iterator[_Mount]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        group, place = (_unescaped(field) for field in before.split()[3:5])
        version, _, options = after.split(maxsplit=2)
        if version == V2 or (version == V1 and "cpu" in options.split(",")):
            yield _Mount(version, group, root / place.lstrip("/"))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def _folders(mount: _Mount, group: str) -> Iterator[Path]:
    """Yield the folders of a group and of all that it stands in, as far as they are mounted."""
    own, top = PurePosixPath(group), PurePosixPath(mount.group)
    # In a container the names of the two may be of different name spaces; what is mounted is its own group then.
    inside = own.relative_to(top) if own.is_relative_to(top) and ".." not in own.parts else PurePosixPath()
    folder = mount.place / inside
    while True:
        yield folder
        if folder == mount.place:
            return
        folder = folder.parent


def _limit(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = _read(folder / "cpu.max").split()
        else:
            quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        if quota == "max" or int(quota) <= 0 or int(period) <= 0:
            return None
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None
