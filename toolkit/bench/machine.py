"""How busy the machine is, as Linux tells it in ``/proc`` and ``/sys``; elsewhere most figures are None.

Of a machine with more cores than this process may use, those that it may use are looked at: a neighbour on one of two
of them halves what they give, and is 1% of a machine with 64.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from toolkit.cgroups import Throttling, throttling
from toolkit.results import Load, MachineState

BUSY_SHARE = 0.1
"""Of all processor time to other processes: from here on the machine counts as busy."""
STEAL_SHARE = 0.02
"""Of all processor time to other machines of the same host: from here on it is said."""
THROTTLED_SHARE = 0.05
"""Of the periods of a container's CPU limit those in which it ran out: from here on it is said."""
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
        self._start, self._throttled = moment(root), throttling(root)
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
        end, throttled = moment(self._root), throttling(self._root)
        found = load_between(self._start, end, self._frequencies)
        share = _throttled_share(self._throttled, throttled)
        self._start, self._throttled, self._frequencies = end, throttled, []
        return found.model_copy(update={"throttled_share": share})


def moment(root: Path = Path("/")) -> Moment | None:
    """Return what the system has counted; None where it does not."""
    try:
        lines = (root / "proc/stat").read_text(encoding="ascii").splitlines()
        # man 5 proc: user nice system idle iowait irq softirq steal; guest time is in user time already.
        counted = [[int(field) for field in line.split()[1:9]] for line in _lines_of_own_cores(lines)]
        user, nice, system, idle, iowait, irq, softirq, steal = (sum(column) for column in zip(*counted, strict=True))
        tick = 1 / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    busy = user + nice + system + irq + softirq
    return Moment(
        total=(busy + idle + iowait + steal) * tick, busy=busy * tick, steal=steal * tick, own=sum(os.times()[:4])
    )


def _lines_of_own_cores(lines: Sequence[str]) -> list[str]:
    """Return what ``/proc/stat`` says of the cores that this process may use, or of all of them together."""
    of_core = {line.partition(" ")[0]: line for line in lines if line.startswith("cpu")}
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    wanted = {f"cpu{core}" for core in own}
    if wanted and wanted < of_core.keys() - {"cpu"}:
        return [of_core[name] for name in wanted]
    return list(lines[:1])


def _throttled_share(start: Throttling | None, end: Throttling | None) -> float | None:
    if start is None or end is None or end.periods <= start.periods:
        return None
    return min(1.0, max(0, end.throttled - start.throttled) / (end.periods - start.periods))


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


def machine_state(before: Load, during: Load, further: Load | None = None) -> MachineState:
    """Return the record, with what a reader must know.

    Args:
        before: anything was measured.
        during: the time in which the model alone was measured.
        further: the time after that, in which something else was; None where nothing was.
    """
    remarks = _remarks(during, "while it was measured")
    if further is not None and not remarks:
        remarks = _remarks(further, "after the model alone was measured, during the rest")
    return MachineState(before=before, during=during, remarks=tuple(remarks))


def warning(before: Load) -> str | None:
    """Return what to tell a person before anything is measured; None on a quiet machine."""
    return " ".join(_remarks(before, "just before measuring")) or None


def _remarks(load: Load, when: str) -> list[str]:
    remarks = []
    if load.busy_share is not None and load.busy_share >= BUSY_SHARE:
        remarks.append(
            f"The machine was busy: other processes took {load.busy_share:.0%} of the processor time {when}. End them "
            "and measure again for figures that hold."
        )
    if load.steal_share is not None and load.steal_share >= STEAL_SHARE:
        remarks.append(
            f"The host of this virtual machine gave {load.steal_share:.0%} of its processor time to other machines "
            f"{when} (steal)."
        )
    if load.throttled_share is not None and load.throttled_share >= THROTTLED_SHARE:
        remarks.append(
            f"The CPU limit of this container ran out in {load.throttled_share:.0%} of its periods {when}: everything "
            "stands still then until the next one. Give the container whole cores, or measure with fewer --threads."
        )
    return remarks


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
