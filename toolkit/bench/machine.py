"""How busy the machine is, as Linux tells it in ``/proc`` and ``/sys``; elsewhere most figures are None."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from toolkit.results import Load, MachineState

BUSY_SHARE = 0.1
"""Of all processor time to other processes: from here on the machine counts as busy."""
STEAL_SHARE = 0.02
"""Of all processor time to other machines of the same host: from here on it is said."""
LEAST_SECONDS = 0.25
"""Processor time, of all cores together, below which shares are not computed: the system counts in hundredths."""


@dataclass(frozen=True)
class Moment:
    """What the system had counted at one moment since it started, in seconds of processor time."""

    total: float
    busy: float
    """Whatever ran here, this process included."""
    steal: float
    own: float
    """This process and its children that have ended."""


class Watch:
    """Looks at the machine from its creation on.

    Args:
        root: where ``proc`` and ``sys`` are; tests give another one.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._start = moment(root)
        self._frequencies: list[float] = []

    def sample(self) -> None:
        """Note the processor's frequency, at a moment when the machine has just computed."""
        if (frequency := frequency_mhz(self._root)) is not None:
            self._frequencies.append(frequency)

    def load(self) -> Load:
        """Return how busy the machine has been since the creation, or since the last call.

        Children that are still running count as other processes.
        """
        if not self._frequencies:
            self.sample()
        end = moment(self._root)
        found = load_between(self._start, end, self._frequencies)
        self._start, self._frequencies = end, []
        return found


def moment(root: Path = Path("/")) -> Moment | None:
    """Return what the system has counted; None where it does not."""
    try:
        first = (root / "proc/stat").read_text(encoding="ascii").splitlines()[0].split()
        # man 5 proc: user nice system idle iowait irq softirq steal; guest time is in user time already.
        user, nice, system, idle, iowait, irq, softirq, steal = (int(field) for field in first[1:9])
        tick = 1 / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    busy = user + nice + system + irq + softirq
    return Moment(
        total=(busy + idle + iowait + steal) * tick, busy=busy * tick, steal=steal * tick, own=sum(os.times()[:4])
    )


def load_between(start: Moment | None, end: Moment | None, frequencies: Sequence[float]) -> Load:
    """Return the load between two moments."""
    busy = steal = None
    if start is not None and end is not None and (total := end.total - start.total) >= LEAST_SECONDS:
        others = (end.busy - start.busy) - (end.own - start.own)
        busy, steal = (min(1.0, max(0.0, seconds / total)) for seconds in (others, end.steal - start.steal))
    return Load(
        load_average=_load_average(),
        busy_share=busy,
        steal_share=steal,
        frequency_mhz=fmean(frequencies) if frequencies else None,
    )


def frequency_mhz(root: Path = Path("/")) -> float | None:
    """Return the mean frequency of the cores; None where the system does not tell."""
    try:
        files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        found = [int(file.read_text(encoding="ascii")) / 1000 for file in files]
        if not found:
            lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    except (OSError, ValueError):
        return None
    return fmean(found) if found else None


def machine_state(before: Load, during: Load) -> MachineState:
    """Return the record, with what a reader must know."""
    return MachineState(before=before, during=during, remarks=tuple(_remarks(during, "while it was measured")))


def warning(before: Load) -> str | None:
    """Return what to tell a person before anything is measured; None on a quiet machine."""
    return " ".join(_remarks(before, "just before measuring")) or None


def _remarks(load: Load, when: str) -> list[str]:
    remarks = []
    if load.busy_share is not None and load.busy_share >= BUSY_SHARE:
        remarks.append(
            f"The machine was busy: other processes took {load.busy_share:.0%} of its processor time {when}. End them "
            "and measure again for figures that hold."
        )
    if load.steal_share is not None and load.steal_share >= STEAL_SHARE:
        remarks.append(
            f"The host of this virtual machine gave {load.steal_share:.0%} of its processor time to other machines "
            f"{when} (steal)."
        )
    return remarks


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
