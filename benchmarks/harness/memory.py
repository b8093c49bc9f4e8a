"""Peak memory of a process and of all that it starts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from toolkit import provenance

POLL_SECONDS = 0.2
INHERITED = 1.05
"""Counters of resident memory are exact to some pages per thread only: a peak this close to the inherited one says
nothing."""


class MemoryWatch:
    """Samples the memory of a process, and of its descendants, in a thread until it is stopped."""

    def __init__(self, pid: int) -> None:
        """Begin; call it right after the process was started."""
        # Popen returns after exec: the child can have inherited no more than this.
        self._floor = provenance.peak_memory_bytes()
        self._pid = pid
        self._largest: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.tree_bytes: int | None = None
        """Largest sum of anonymous memory over the process and its descendants so far."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self._thread.join()

    def peak_bytes(self, reported: int | None) -> int | None:
        """Return the largest peak of any one process, given what the system reported at the end."""
        return peak_of(reported, self._largest, self._floor)

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._sample()
            self._ended.wait(POLL_SECONDS)

    def _sample(self) -> None:
        members = tree(self._pid)
        peaks = [peak for peak in (_status(member, "VmHWM") for member in members) if peak is not None]
        if peaks:
            self._largest = max(*peaks, self._largest or 0)
        total = _anonymous(members)
        if total:
            self.tree_bytes = max(total, self.tree_bytes or 0)


def peak_of(reported: int | None, sampled: int | None, floor: int | None) -> int | None:
    """Return the peak memory of a child in bytes.

    Args:
        reported: ``ru_maxrss``. It is exact, but on Linux it survives exec, so that a child begins with the peak of the
            process that starts it.
        sampled: ``VmHWM``, read every 0.2 s; taken where ``reported`` may be nothing but that inheritance.
        floor: peak memory of the process that starts the child.
    """
    inherited = reported is not None and floor is not None and reported <= floor * INHERITED
    return sampled if reported is None or inherited else reported


def anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory of a process and its descendants now, of which pages may be counted twice."""
    return _anonymous(tree(pid))


def _anonymous(members: Sequence[int]) -> int:
    return sum(_status(member, "RssAnon") or 0 for member in members)


def _status(pid: int, name: str) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def tree(pid: int) -> list[int]:
    """Return a process and its descendants that are there now, as Linux lists them."""
    members = [pid]
    for member in members:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                with contextlib.suppress(OSError):
                    members += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return members
