"""A bound on memory for commands that run a graph of whoever made the bundle.

A small graph can ask for any amount (Tile, Expand, ConstantOfShape, a loop). Where the system has no room for it, the
system ends some process, and not always this one. With the bound the engine's own request fails, which is a sentence.
"""

from __future__ import annotations

import sys
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")
_before: list[tuple[int, int]] = []
"""Bounds that held before, the newest last."""


def bound_memory(device: str) -> None:
    """Let this process take no more memory than is free now, until the command ends.

    On Linux only, and on the CPU only: what a GPU's driver maps is no memory of this machine.

    Args:
        device: where the graph will run.
    """
    if sys.platform != "linux" or device != "cpu":
        return
    import resource

    free, used = free_bytes(), _kilobytes(STATUS, "VmData")
    if free is None or used is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = min([used + free, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    _before.append((soft, hard))


def release_memory() -> None:
    """Take the bounds back that were set since, for callers that go on in this process."""
    while _before:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, _before.pop())


def free_bytes() -> int | None:
    """Return how much memory can still be taken, of the machine or of the container if that is less."""
    amounts = [_kilobytes(MEMINFO, "MemAvailable"), _free_in_container()]
    return min((amount for amount in amounts if amount is not None), default=None)


def _free_in_container() -> int | None:
    """Return what the control group (version 2) still allows; what caches files counts as free."""
    try:
        most, taken = ((CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return max(0, int(most) - int(taken) + int(statistics.get("inactive_file", 0)))
    except (OSError, ValueError):  # another system, or "max": no bound
        return None


def _kilobytes(path: Path, name: str) -> int | None:
    """Return an entry of a file of the kernel that counts in kB, in bytes."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
