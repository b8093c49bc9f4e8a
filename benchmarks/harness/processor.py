"""Processor time of a process and of all that it has started."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.harness.memory import tree


def processor_seconds(pid: int) -> float:
    """Return what a process and its descendants have taken of the processors so far, in user and system mode.

    Of a descendant that has ended, what its parent has waited for counts.
    """
    return sum(_ticks(member) for member in tree(pid)) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:  # it has just ended
        return 0
    # The second field is the name of the program, in brackets, which may hold anything. From the third on, user and
    # system time are the 12th and 13th, those of children that were waited for the next two.
    return sum(int(value) for value in line.rpartition(")")[2].split()[11:15])
