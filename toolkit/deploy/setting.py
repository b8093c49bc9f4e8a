"""How a server is to run a model: as it was measured where a benchmark has done so, or by a default that says so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toolkit.bundle.manifest import ArtifactRecord, BenchSummary
from toolkit.devices import kind_of
from toolkit.errors import MOST_THREADS
from toolkit.printable import printable

DEFAULT_BATCH = 8
"""Images in one call where nothing was measured: enough for a GPU to be worth it, and little memory."""
LARGEST_BATCH = 65_536
DELAY_SHARE = 0.1
"""How long a request may wait for others, as a share of what one call takes: nobody waits much longer for it."""
LONGEST_DELAY_MICROSECONDS = 100_000


@dataclass(frozen=True)
class Setting:
    """What a server is told of batches, instances and threads."""

    max_batch_size: int
    """Images in one call, at least 1."""
    instances: int
    """Calls at the same time, each with a copy of the model."""
    threads: int | None
    """CPU threads of one call; None to leave it to the engine, which takes every core it sees."""
    queue_delay_microseconds: int
    """How long a request may wait for others to share its call."""
    source: str
    """Where this is from, as the end of a sentence."""
    measured: bool = True
    """False for the default."""


def setting_of(artifact: ArtifactRecord, device: str, purpose: str) -> Setting:
    """Return the setting for an artifact on a device.

    What the sweep of the benchmark found for the purpose comes first, then the fastest batch size of a benchmark, then
    the default. It was measured on some machine; whether the server has such a one is for a person to judge, so the
    source names it.

    Args:
        artifact: its entry in the manifest.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        purpose: ``latency`` or ``throughput``.

    Raises:
        DeviceError: there is no such device.
    """
    kind = kind_of(device)
    newest_first = sorted(artifact.benchmarks, key=lambda summary: summary.measured, reverse=True)
    summaries = [summary for summary in newest_first if summary.device.partition(":")[0] == kind]
    for summary in summaries:
        for tuned in summary.tuned:
            if tuned.purpose == purpose:
                return Setting(
                    max_batch_size=tuned.batch_size,
                    instances=tuned.streams,
                    threads=tuned.threads,
                    queue_delay_microseconds=_delay(tuned.batch_size, tuned.latency_p50_seconds),
                    source=f"the best for {purpose} that 'toolkit bench --sweep' found {_where(summary)}",
                )
    for summary in summaries:
        fastest = purpose == "throughput"
        batch = _within(summary.batch_size if fastest else summary.latency_batch_size, LARGEST_BATCH)
        seconds = batch / summary.images_per_second if fastest and summary.images_per_second > 0 else 0.0
        return Setting(
            max_batch_size=batch,
            instances=1,
            threads=_within(summary.threads, MOST_THREADS),
            queue_delay_microseconds=_delay(batch, seconds),
            source=f"the {'fastest' if fastest else 'smallest'} batch that 'toolkit bench' measured {_where(summary)}; "
            "instances were not tried, which 'toolkit bench --sweep' does",
        )
    return Setting(
        max_batch_size=DEFAULT_BATCH if purpose == "throughput" else 1,
        instances=1,
        threads=None,
        queue_delay_microseconds=0,
        source=f"a default: nothing was measured on {kind}, which 'toolkit bench --sweep' does",
        measured=False,
    )


def _where(summary: BenchSummary) -> str:
    return f"on {printable(summary.processor)} at {printable(summary.measured)}"


def _delay(batch: int, seconds: float) -> int:
    """Return a share of the time of one call; none where nobody is waited for, or the time is not one."""
    if batch == 1 or not (math.isfinite(seconds) and seconds > 0):
        return 0
    return _within(int(min(seconds, 3600.0) * DELAY_SHARE * 1e6), LONGEST_DELAY_MICROSECONDS, least=0)


def _within(value: int, most: int, least: int = 1) -> int:
    """Return the number, or the bound that it crosses: a manifest may say anything."""
    return max(least, min(value, most))
