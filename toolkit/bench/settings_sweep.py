"""The best setting of each artifact: batch size x threads x parallel streams, and whether idle threads spin.

Every setting is tried once, the simplest first. Those that are clearly worse for either purpose go; the others are
measured in interleaved rounds. Of settings that cannot be told apart the simplest is taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from toolkit import provenance
from toolkit.bench import statistics
from toolkit.bench.clock import Clock, MonotonicClock
from toolkit.bench.inputs import Inputs
from toolkit.bench.job import Job
from toolkit.bench.options import BenchOptions
from toolkit.bench.process import WorkerFailedError, WorkerProcess
from toolkit.bench.rows import Plan
from toolkit.bundle.manifest import InputContract
from toolkit.formats.registry import formats
from toolkit.progress import Bar, Reporter
from toolkit.results import SettingTiming, Tuned

WORKER = "toolkit.bench.settings_worker"
MOST_STREAMS = 8
"""Each has a session of its own, and with it the memory of one."""
CUDA_STREAMS = (1, 2, 4)
CLEARLY = 1.25
"""A setting that is slower than the best one by this factor in its first round is not measured again."""
CLOSE = 0.05
"""No simpler setting is taken that is slower by more than this share, however wide the intervals are."""
ROUNDS_FOR_INTERVALS = 4
"""From so many on, intervals decide what is not measured again."""
MOST_FAILURES = 3


@dataclass(frozen=True)
class Setting:
    """How an artifact is called."""

    batch_size: int
    threads: int
    """Of each stream."""
    streams: int
    spinning: bool | None = None
    """None where the engine is not told."""

    @property
    def simplicity(self) -> tuple[int, int, bool, int]:
        """What sorts the simplest first: fewer streams, a smaller batch, sleeping threads, fewer threads."""
        return (self.streams, self.batch_size, bool(self.spinning), self.threads)

    def within(self, other: Setting) -> bool:
        """Say whether it asks for no more memory than another one."""
        return self.batch_size <= other.batch_size and self.streams <= other.streams


@dataclass
class Tried:
    """A setting and what was measured of it."""

    setting: Setting
    calls: list[list[float]] = field(default_factory=list)
    """Seconds of the calls of all streams, one list a round."""
    images_per_second: list[float] = field(default_factory=list)
    """Of all streams together, a figure a round."""

    def add(self, streams: Sequence[Sequence[float]]) -> None:
        """Add a round, given the seconds of each call of each stream.

        A stream is busy from its first call to its last, so the rates of all of them add up.
        """
        self.calls.append([seconds for stream in streams for seconds in stream])
        self.images_per_second.append(sum(statistics.throughput(self.setting.batch_size, stream) for stream in streams))

    @property
    def p50_seconds(self) -> list[float]:
        """Median call of each round."""
        return [float(np.median(seconds)) for seconds in self.calls]

    def timing(self) -> SettingTiming:
        """Return it as a record."""
        return SettingTiming(
            batch_size=self.setting.batch_size,
            threads=self.setting.threads,
            streams=self.setting.streams,
            throughput=statistics.estimate(self.images_per_second),
            latency=statistics.latency([seconds for calls in self.calls for seconds in calls]),
            spinning=self.setting.spinning,
        )


Score = Callable[[Tried], list[float]]
"""A figure for each round; more is better."""


def by_throughput(tried: Tried) -> list[float]:
    """Score by images per second."""
    return tried.images_per_second


def by_latency(tried: Tried) -> list[float]:
    """Score by the median call."""
    return [1 / seconds if seconds > 0 else float("inf") for seconds in tried.p50_seconds]


@dataclass(frozen=True)
class Limits:
    """How long a sweep may take."""

    rounds: int
    min_seconds: float
    """Least measured time of each stream, setting and round."""
    seconds: float = 60.0
    """Of one artifact. The first trial of the simplest setting is made in any case."""
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """What came of a sweep of one artifact."""

    sweep: tuple[SettingTiming, ...] = ()
    tuned: tuple[Tuned, ...] = ()


def grid(device: str, largest_batch: int, threads: int, spins: bool) -> list[Setting]:
    """Return the settings to try, the simplest first.

    Args:
        device: ``cpu`` or ``cuda``.
        largest_batch: batch sizes are the powers of two from 1 to here, and this one.
        threads: the most that compute at the same time; streams share them.
        spins: whether the engine can be told to let idle threads spin.
    """
    if device == "cpu":
        shares = [
            (each, streams) for each in doublings(threads) for streams in doublings(min(MOST_STREAMS, threads // each))
        ]
    else:
        shares = [(threads, streams) for streams in CUDA_STREAMS]
    settings = [
        Setting(batch_size, each, streams, spinning)
        for batch_size, (each, streams) in product(doublings(largest_batch), shares)
        for spinning in ((False, True) if spins and device == "cpu" and each > 1 else (False if spins else None,))
    ]
    return sorted(settings, key=lambda setting: setting.simplicity)


def doublings(last: int) -> list[int]:
    """Return 1, 2, 4, ... and ``last``."""
    return sorted({1 << power for power in range(last.bit_length())} | {last})


def contenders(tried: Sequence[Tried]) -> list[Tried]:
    """Leave out the settings that can be best neither for throughput nor for the latency of one image."""
    single = [one for one in tried if one.setting.batch_size == 1]
    kept = {id(one) for one in (*_in_reach(tried, by_throughput), *_in_reach(single, by_latency))}
    return [one for one in tried if id(one) in kept]


def _in_reach(tried: Sequence[Tried], score: Score) -> list[Tried]:
    if not tried:
        return []
    scores = {id(one): score(one) for one in tried}
    best = max(float(np.median(values)) for values in scores.values())
    if all(len(values) >= ROUNDS_FOR_INTERVALS for values in scores.values()):
        estimates = {key: statistics.estimate(values) for key, values in scores.items()}
        least = max(estimate.interval.low for estimate in estimates.values())
        return [one for one in tried if estimates[id(one)].interval.high >= least]
    return [one for one in tried if float(np.median(scores[id(one)])) * CLEARLY >= best]


def best(tried: Sequence[Tried], score: Score) -> Tried:
    """Return the best setting, or the simplest of those that cannot be told from it.

    Two settings are compared by the ratios of the same rounds, which share the weather of the machine. They cannot be
    told apart where the interval of the median ratio reaches 1, or where there were too few rounds for one, and the
    ratio is within ``CLOSE`` of it.

    Args:
        tried: at least one; all measured in the same rounds.
        score: what is to be large.
    """
    first = max(tried, key=lambda one: float(np.median(score(one))))

    def as_good(one: Tried) -> bool:
        ratio = statistics.estimate([a / b for a, b in zip(score(one), score(first), strict=True)])
        unsure = ratio.rounds < ROUNDS_FOR_INTERVALS or ratio.interval.high >= 1
        return unsure and ratio.median >= 1 - CLOSE

    return min((one for one in tried if one is first or as_good(one)), key=lambda one: one.setting.simplicity)


def tuned(tried: Iterable[Tried], cores: int) -> tuple[Tuned, ...]:
    """Return the best setting for the latency of one image and for throughput, among those measured most often.

    Args:
        tried: what was measured; those with fewer rounds than others were found to be worse.
        cores: of this process.
    """
    known = [one for one in tried if one.calls]
    rounds = max((len(one.calls) for one in known), default=0)
    whole = [one for one in known if len(one.calls) == rounds]
    single = [one for one in whole if one.setting.batch_size == 1]
    chosen = []
    if single:
        chosen.append(_tuned("latency", best(single, by_latency), cores))
    if whole:
        chosen.append(_tuned("throughput", best(whole, by_throughput), cores))
    return tuple(chosen)


def _tuned(purpose: str, chosen: Tried, cores: int) -> Tuned:
    timing = chosen.timing()
    return Tuned.model_validate(
        {
            "purpose": purpose,
            "batch_size": timing.batch_size,
            "threads": timing.threads,
            "streams": timing.streams,
            "images_per_second": timing.throughput.median,
            "latency_p50_seconds": timing.latency.p50_seconds,
            "spinning": timing.spinning,
            "cores": cores,
        }
    )


class SettingsSweep:
    """The sweep of one artifact, in a process of its own.

    Args:
        plan: the artifact and the device.
        job: what the worker is told.
        settings: what to try, the simplest first.
        limits: when it is over.
        log: file for what the worker prints.
        reporter: where progress goes.
    """

    def __init__(
        self, plan: Plan, job: Job, settings: Sequence[Setting], limits: Limits, log: Path, reporter: Reporter
    ) -> None:
        self._title = f"{plan.name} ({plan.device})"
        self._device = plan.device
        self._job = job
        self._limits = limits
        self._log = log
        self._reporter = reporter
        self._tried = [Tried(setting) for setting in settings]
        self._worker: WorkerProcess | None = None
        self._failures: list[Setting] = []
        self._clock: Clock = MonotonicClock()
        self._ends = 0.0

    def run(self) -> Found:
        """Measure, and choose. What fails drops out with everything that needs more memory still."""
        rounds, order, left = self._limits.rounds, random.Random(self._limits.seed), list(self._tried)
        self._ends = self._clock.now() + self._limits.seconds
        try:
            with self._reporter.bar(f"sweep of {self._title}", total=len(left) * rounds, unit="trials") as bar:
                for index in range(rounds):
                    measured, whole = self._round(left, bar)
                    if not whole:
                        self._forget(index)
                        break
                    before, left = len(left), contenders(measured)
                    bar.advance((before - len(left)) * (rounds - index - 1))
                    order.shuffle(left)
        finally:
            self._close()
        known = [one for one in self._tried if one.calls]
        self._say(known)
        return Found(tuple(one.timing() for one in known), tuned(known, provenance.available_cores()))

    def _round(self, left: Sequence[Tried], bar: Bar) -> tuple[list[Tried], bool]:
        """Try each setting once; return those that could be measured, and whether there was time for all."""
        measured: list[Tried] = []
        for one in left:
            if measured and self._clock.now() > self._ends:
                return measured, False
            if not any(failed.within(one.setting) for failed in self._failures) and self._trial(one):
                measured.append(one)
            bar.advance(row=self._title, batch=str(one.setting.batch_size))
        return measured, True

    def _forget(self, index: int) -> None:
        """Take back a later round that is not whole: settings are compared over the same rounds."""
        for one in self._tried if index else ():
            del one.calls[index:], one.images_per_second[index:]

    def _trial(self, one: Tried) -> bool:
        if len(self._failures) >= MOST_FAILURES:
            return False
        try:
            one.add(self._measure(one.setting))
        except WorkerFailedError as error:
            self._close()
            self._failures.append(one.setting)
            self._reporter.line(f"{self._title} cannot be called with {said(one.setting)}: {error}")
            return False
        return True

    def _measure(self, setting: Setting) -> list[list[float]]:
        if self._worker is None:
            self._worker = WorkerProcess(self._job, self._log, WORKER)
            self._worker.wait_ready()
        told = {} if setting.spinning is None else {"spinning": setting.spinning}
        reply = self._worker.ask(
            "measure", batch_size=setting.batch_size, threads=setting.threads, streams=setting.streams, **told
        )
        if reply["device"] != self._device:
            raise WorkerFailedError(f"it ran on {reply['device']}")
        seconds: list[list[float]] = reply["seconds"]
        return seconds

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _say(self, known: Sequence[Tried]) -> None:
        if len(known) < len(self._tried):
            self._reporter.line(
                f"sweep of {self._title}: {len(known)} of {len(self._tried)} settings were measured; the others "
                f"{'failed, or would need more memory than one that did' if self._failures else 'had no time left'}"
            )


def said(setting: Setting) -> str:
    """Return a setting in words."""
    words = [f"batch {setting.batch_size}", counted(setting.threads, "thread")]
    words += [counted(setting.streams, "stream")] if setting.streams > 1 else []
    return ", ".join(words + (["spinning"] if setting.spinning else []))


def counted(count: int, what: str) -> str:
    """Return a number of things."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def sweep_settings(
    plans: Sequence[Plan], inputs: Inputs, contract: InputContract, options: BenchOptions, reporter: Reporter
) -> Iterator[tuple[tuple[str, str], Found]]:
    """Sweep artifact by artifact, so that the sessions of one are in memory at a time.

    Args:
        plans: artifacts that could be measured at all.
        inputs: prepared test images.
        contract: what the graphs take.
        options: the most threads, the largest batch, rounds and times.
        reporter: where progress goes.

    Yields:
        Name and device of the row, and what was found.
    """
    limits = Limits(options.rounds, options.min_seconds)
    for index, plan in enumerate(plans):
        format_ = formats().get(plan.name)
        settings = grid(
            plan.device, max(options.batch_sizes), options.thread_count, format_ is not None and format_.spins
        )
        job = Job(
            factory=plan.factory,
            arguments=plan.arguments,
            images=str(inputs.images),
            targets=str(inputs.targets),
            contract=contract,
            min_seconds=options.min_seconds,
        )
        log = inputs.folder / f"sweep-{index}.log"
        yield (plan.name, plan.device), SettingsSweep(plan, job, settings, limits, log, reporter).run()
