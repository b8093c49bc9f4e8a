"""Measuring all rows in interleaved rounds, one worker computing at a time.

Rounds are interleaved because a machine's speed drifts (temperature, neighbours): rows measured one after the other
would each get their own weather, rows measured in turn share it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkit.bench.inputs import Inputs
from toolkit.bench.job import Job
from toolkit.bench.process import WorkerFailedError, WorkerProcess
from toolkit.bench.rows import Plan
from toolkit.bundle.manifest import InputContract
from toolkit.progress import Reporter, working

ACCURACY_STEP = 256
"""Test images per command: how often the progress bar moves."""


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    batch_sizes: tuple[int, ...]
    rounds: int
    min_seconds: float
    """Least measured time per row, batch size and round."""
    seed: int = 0


@dataclass
class Outcome:
    """What came of one row."""

    plan: Plan
    missing: str | None = None
    engine: str | None = None
    spinning: bool | None = None
    load_seconds: float | None = None
    peak_memory_bytes: int | None = None
    correct: int = 0
    rounds: dict[int, list[list[float]]] = field(default_factory=dict)
    """Batch size to one list of per-call seconds per round."""


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
        finally:
            for worker in self._workers.values():
                worker.close()
        return self.outcomes

    def _start(self) -> None:
        """Import all engines at once, then open the models one by one, so that each load time is measured alone."""
        for index, outcome in enumerate(self.outcomes):
            if outcome.missing is None:
                self._workers[index] = WorkerProcess(
                    self._job(outcome.plan), self._inputs.folder / f"worker-{index}.log"
                )
        for index in list(self._workers):
            try:
                self._workers[index].wait_ready()
            except WorkerFailedError as error:
                self._drop(index, str(error))
        for index in list(self._workers):
            if (opened := self._ask(index, "open")) is not None:
                self._check_opened(index, opened)

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
        outcome.load_seconds = opened["load_seconds"]

    def _measure(self) -> None:
        settings = self._settings
        pairs = [(index, size) for index in self._workers for size in settings.batch_sizes]
        order = random.Random(settings.seed)
        with self._reporter.bar("bench", total=len(pairs) * (settings.rounds + 1), unit="measurements") as bar:
            for index, size in pairs:
                self._ask(index, "warm_up", batch_size=size)
                bar.advance(row=self._title(index), batch=str(size))
            for _ in range(settings.rounds):
                order.shuffle(pairs)
                for index, size in pairs:
                    if (reply := self._ask(index, "measure", batch_size=size)) is not None:
                        self.outcomes[index].rounds.setdefault(size, []).append(reply["seconds"])
                    bar.advance(row=self._title(index), batch=str(size))

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
                        self.outcomes[index].correct += reply["correct"]
                    bar.advance(stop - start, row=self._title(index))

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
