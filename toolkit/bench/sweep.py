"""Measuring all rows in interleaved rounds, one worker computing at a time.

Rounds are interleaved because a machine's speed drifts (temperature, neighbours): rows measured one after the other
would each get their own weather, rows measured in turn share it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from toolkit.bench import statistics
from toolkit.bench.clock import MonotonicClock
from toolkit.bench.inputs import Inputs
from toolkit.bench.job import Job
from toolkit.bench.process import WorkerFailedError, WorkerProcess
from toolkit.bench.rows import Plan
from toolkit.bench.stopping import Stopping
from toolkit.bundle.manifest import InputContract
from toolkit.progress import Bar, Reporter, working
from toolkit.results import REFERENCE_ROW

ACCURACY_STEP = 256
"""Test images per command: how often the progress bar moves. A multiple of 8, so that their bits fill whole bytes."""


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    batch_sizes: tuple[int, ...]
    rounds: int
    """See ``Stopping``, here and below."""
    min_seconds: float
    """Least measured time per row, batch size and round."""
    seed: int = 0
    max_seconds: float = 60.0
    precision: float | None = None

    @property
    def stopping(self) -> Stopping:
        """When a row stops."""
        return Stopping(self.rounds, self.max_seconds, self.precision)


@dataclass
class Timed:
    """What was measured of one row at one batch size."""

    rounds: list[list[float]] = field(default_factory=list)
    """Seconds of each call of each round."""
    processor_seconds: float = 0.0
    """Of all rounds together."""
    device_seconds: list[float] = field(default_factory=list)
    """Of each call of each round, between events of the device; empty where there are none."""
    warm_up_seconds: float | None = None
    warm: bool | None = None

    def rates(self, batch_size: int) -> list[float]:
        """Return images per second of each round."""
        return [statistics.throughput(batch_size, seconds) for seconds in self.rounds]


@dataclass
class Outcome:
    """What came of one row."""

    plan: Plan
    missing: str | None = None
    engine: str | None = None
    spinning: bool | None = None
    provider: str | None = None
    tf32: bool | None = None
    load_seconds: float | None = None
    cold_start_seconds: float | None = None
    idle_memory_bytes: int | None = None
    """Peak before the model was opened."""
    peak_memory_bytes: int | None = None
    correct: bytearray = field(default_factory=bytearray)
    """A bit for each test image, see ``BenchRow.correct``."""
    timed: dict[int, Timed] = field(default_factory=dict)
    """By batch size."""
    peak_flops_per_second: float | None = None
    """What a matrix product reached in this row's worker; of the reference row alone."""

    @property
    def is_reference(self) -> bool:
        """Whether others on its device are compared with it."""
        return self.plan.name == REFERENCE_ROW


def reference_of(outcomes: Sequence[Outcome], device: str) -> Outcome | None:
    """Return the row on a device that others are compared with; None where it was not measured."""
    found = (outcome for outcome in outcomes if outcome.is_reference and outcome.plan.device == device)
    return next((outcome for outcome in found if outcome.missing is None), None)


class Sweep:
    """One measurement of all rows. A row that fails drops out with its reason; the others go on."""

    def __init__(
        self, plans: Sequence[Plan], inputs: Inputs, contract: InputContract, settings: Settings, reporter: Reporter
    ) -> None:
        self.outcomes = [Outcome(plan, missing=plan.refused) for plan in plans]
        self._inputs = inputs
        self._contract = contract
        self._settings = settings
        self._reporter = reporter
        self._workers: dict[int, WorkerProcess] = {}
        self._clock = MonotonicClock()
        self.after_round: Callable[[], None] = _nothing
        """Called after each round, when the machine has just computed."""

    def run(self) -> list[Outcome]:
        """Measure speed, then memory, then accuracy; return the outcomes in the order of the plans."""
        for outcome in self.outcomes:
            if outcome.missing is not None:
                self._say(outcome)
        try:
            with working(self._reporter, "opening what is measured"):
                self._start()
            self._measure()
            self._memory()
            self._accuracy()
            self._peaks()
        finally:
            with working(self._reporter, "ending what was measured"):
                for worker in self._workers.values():
                    worker.close()
        return self.outcomes

    def _start(self) -> None:
        """Start one worker after the other and have each answer once: alone, so that its cold start is its own."""
        waiting = [index for index, outcome in enumerate(self.outcomes) if outcome.missing is None]
        with self._reporter.bar("starting", total=len(waiting), unit="rows") as bar:
            for index in waiting:
                self._start_row(index)
                bar.advance(row=self._title(index))

    def _start_row(self, index: int) -> None:
        outcome = self.outcomes[index]
        start = self._clock.now()
        self._workers[index] = WorkerProcess(self._job(outcome.plan), self._inputs.folder / f"worker-{index}.log")
        try:
            self._workers[index].wait_ready()
        except WorkerFailedError as error:
            self._drop(index, str(error))
            return
        if (opened := self._ask(index, "open")) is not None:
            self._check_opened(index, opened)
        if self._ask(index, "answer", batch_size=1) is not None:
            outcome.cold_start_seconds = self._clock.now() - start

    def _job(self, plan: Plan) -> Job:
        return Job(
            factory=plan.factory,
            arguments=plan.arguments,
            images=str(self._inputs.images),
            targets=str(self._inputs.targets),
            contract=self._contract,
            min_seconds=self._settings.min_seconds,
        )

    def _check_opened(self, index: int, opened: dict[str, Any]) -> None:
        outcome = self.outcomes[index]
        if opened["device"] != outcome.plan.device:
            self._drop(index, f"asked for {outcome.plan.device}, {opened['engine']} runs it on {opened['device']}")
            return
        outcome.engine = opened["engine"]
        outcome.spinning = opened.get("spinning")
        outcome.provider, outcome.tf32 = opened.get("provider"), opened.get("tf32")
        outcome.load_seconds = opened["load_seconds"]
        outcome.idle_memory_bytes = opened.get("idle_memory_bytes")

    def _measure(self) -> None:
        settings = self._settings
        pairs = [(index, size) for index in self._workers for size in settings.batch_sizes]
        order = random.Random(settings.seed)
        with self._reporter.bar("bench", total=len(pairs) * (settings.rounds + 1), unit="measurements") as bar:
            for index, size in pairs:
                if (reply := self._ask(index, "warm_up", batch_size=size)) is not None:
                    timed = self.outcomes[index].timed.setdefault(size, Timed())
                    timed.warm_up_seconds, timed.warm = reply["seconds"], reply["warm"]
                bar.advance(row=self._title(index), batch=str(size))
            left = settings.rounds
            while pairs:
                order.shuffle(pairs)
                for pair in pairs:
                    self._measure_once(*pair, bar)
                self.after_round()
                left -= 1
                going_on = self._going_on(pairs)
                bar.advance(left * (len(pairs) - len(going_on)))  # rounds that need not be made
                pairs = going_on

    def _measure_once(self, index: int, size: int, bar: Bar) -> None:
        if (reply := self._ask(index, "measure", batch_size=size)) is not None:
            timed = self.outcomes[index].timed.setdefault(size, Timed())
            timed.rounds.append(reply["seconds"])
            timed.processor_seconds += reply["processor_seconds"]
            timed.device_seconds += reply["device_seconds"]
        bar.advance(row=self._title(index), batch=str(size))

    def _going_on(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the rows and batch sizes that need a further round, in the order that they have.

        All that still run have made the same rounds, so round i of a row was measured beside round i of its reference.
        The reference goes on as long as a row on its device needs it; when its own time is up, theirs is.
        """
        undecided = [pair for pair in pairs if not self._stops(*pair)]
        compared = {self._group(*pair) for pair in undecided if not self.outcomes[pair[0]].is_reference}
        needed = [
            pair
            for pair in pairs
            if pair[0] in self._workers and self.outcomes[pair[0]].is_reference and self._group(*pair) in compared
        ]
        return [pair for pair in pairs if pair in undecided or pair in needed]

    def _stops(self, index: int, size: int) -> bool:
        if index not in self._workers:
            return True
        stopping, outcome = self._settings.stopping, self.outcomes[index]
        reference = None if outcome.is_reference else reference_of(self.outcomes, outcome.plan.device)
        own, other = outcome.timed[size], None if reference is None else reference.timed[size]
        if any(stopping.time_is_up(timed.rounds) for timed in (own, other) if timed is not None):
            return True
        return stopping.narrow(own.rates(size), None if other is None else other.rates(size))

    def _group(self, index: int, size: int) -> tuple[str, int]:
        """Return what is compared with each other: rows of one device at one batch size."""
        return self.outcomes[index].plan.device, size

    def _memory(self) -> None:
        """Ask before accuracy is measured: mapped test images count as resident memory too."""
        for index in list(self._workers):
            if (reply := self._ask(index, "memory")) is not None:
                self.outcomes[index].peak_memory_bytes = reply["peak_memory_bytes"]

    def _accuracy(self) -> None:
        count = self._inputs.count
        with self._reporter.bar("accuracy", total=len(self._workers) * count, unit="images") as bar:
            for index in list(self._workers):
                for start in range(0, count, ACCURACY_STEP):
                    stop = min(start + ACCURACY_STEP, count)
                    if (reply := self._ask(index, "accuracy", start=start, stop=stop)) is not None:
                        self.outcomes[index].correct += bytes.fromhex(reply["correct"])
                    bar.advance(stop - start, row=self._title(index))

    def _peaks(self) -> None:
        """Measure the fastest matrix product in the workers of the reference, which have PyTorch loaded.

        Last of all: what it takes of memory belongs to no model, and where it fails the row's own figures stay.
        """
        for index, worker in self._workers.items():
            if self.outcomes[index].is_reference:
                with suppress(WorkerFailedError), working(self._reporter, "measuring the fastest matrix product"):
                    self.outcomes[index].peak_flops_per_second = worker.ask("peak")["flops_per_second"]

    def _ask(self, index: int, do: str, **arguments: int) -> dict[str, Any] | None:
        """Return the reply of a row's worker, or None where the row has dropped out."""
        if index not in self._workers:
            return None
        try:
            return self._workers[index].ask(do, **arguments)
        except WorkerFailedError as error:
            size = f" at batch {arguments['batch_size']}" if "batch_size" in arguments else ""
            self._drop(index, f"{error}{size}")
            return None

    def _drop(self, index: int, reason: str) -> None:
        self._workers.pop(index).close()
        self.outcomes[index].missing = reason
        self._say(self.outcomes[index])

    def _say(self, outcome: Outcome) -> None:
        self._reporter.line(f"{outcome.plan.name} on {outcome.plan.device} is not measured: {outcome.missing}")

    def _title(self, index: int) -> str:
        plan = self.outcomes[index].plan
        return f"{plan.name} ({plan.device})"


def _nothing() -> None:
    """Do nothing."""
