"""The process behind one row: ``python -m toolkit.bench.worker``.

One process per row, because memory, load time and thread pools cannot be told apart inside one. Messages are lines of
JSON: a ``Job`` first, then commands on standard input; one reply each on standard output. The end of standard input is
the end of the process, so no worker outlives the process that started it, however that one ended.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, TextIO

import numpy as np
import numpy.typing as npt

from toolkit.bench.clock import Clock, MonotonicClock
from toolkit.bench.job import Job
from toolkit.bench.measure import Runner, measure_round, warm_up
from toolkit.bench.peak import fastest_of_engines
from toolkit.devices import kind_of
from toolkit.errors import ToolkitError, first_line
from toolkit.formats.base import Session
from toolkit.provenance import peak_memory_bytes

ACCURACY_BATCH = 32


class _OnDevice:
    """A session's call with its input on the device already and its outputs left there (``Session.on_device``)."""

    def __init__(self, call: Callable[[], float | None]) -> None:
        self._call = call
        self.device_seconds: list[float] = []
        """Between two events around each call, where the engine has events."""

    def run(self, inputs: npt.NDArray[np.generic]) -> None:
        del inputs
        if (seconds := self._call()) is not None:
            self.device_seconds.append(seconds)


class Worker:
    """Answers commands about one model. Creating it imports the engine; ``open`` opens the model."""

    def __init__(self, job: Job, clock: Clock) -> None:
        module, _, function = job.factory.partition(":")
        self._opener = getattr(import_module(module), function)(job.arguments)
        self._job = job
        self._clock = clock
        self._images = np.load(job.images, mmap_mode="r")
        self._targets = np.load(job.targets)
        self._session: Session | None = None
        self._inputs: dict[int, npt.NDArray[np.generic]] = {}
        self._runners: dict[int, Runner] = {}

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do one command: ``open``, ``answer``, ``warm_up``, ``measure``, ``memory``, ``accuracy`` or ``peak``."""
        match command["do"]:
            case "open":
                return self._open()
            case "answer":
                self._opened().run(self._batch(command["batch_size"]))
                return {}
            case "warm_up":
                size = command["batch_size"]
                done = warm_up(self._runner(size), self._batch(size), self._clock, self._job.min_seconds)
                return {"seconds": done.seconds, "warm": done.warm}
            case "measure":
                return self._measure(command["batch_size"])
            case "memory":
                return {"peak_memory_bytes": peak_memory_bytes()}
            case "accuracy":
                return {"correct": self._correct(command["start"], command["stop"]).hex()}
            case "peak":
                session = self._opened()
                return {"flops_per_second": fastest_of_engines(session.device, session.threads, self._clock)}
            case unknown:
                raise ValueError(f"no command {unknown!r}")

    def _open(self) -> dict[str, Any]:
        idle = peak_memory_bytes()
        start = self._clock.now()
        self._session = self._opener()
        load_seconds = self._clock.now() - start
        return {
            "device": self._session.device,
            "engine": self._session.engine,
            "threads": self._session.threads,
            "spinning": getattr(self._session, "spinning", None),
            "provider": getattr(self._session, "provider", None),
            "tf32": getattr(self._session, "tf32", None),
            "load_seconds": load_seconds,
            "idle_memory_bytes": idle,
        }

    def _opened(self) -> Session:
        if self._session is None:
            raise ValueError("the session was not opened")
        return self._session

    def _batch(self, size: int) -> npt.NDArray[np.generic]:
        """Return real test images as the graph takes them, starting again at the first where there are too few."""
        if size not in self._inputs:
            self._inputs[size] = self._job.contract.encode(self._images[np.arange(size) % len(self._images)])
        return self._inputs[size]

    def _runner(self, batch_size: int) -> Runner:
        """Return what is timed at a batch size: on a GPU the call alone, without copies to and from the device."""
        if batch_size not in self._runners:
            session = self._opened()
            on_device = getattr(session, "on_device", None) if kind_of(session.device) == "cuda" else None
            self._runners[batch_size] = session if on_device is None else _OnDevice(on_device(self._batch(batch_size)))
        return self._runners[batch_size]

    def _measure(self, batch_size: int) -> dict[str, Any]:
        runner, inputs = self._runner(batch_size), self._batch(batch_size)
        # Another process has computed since the last round: caches are cold and threads asleep. One call that nobody
        # counts wakes them.
        runner.run(inputs)
        events = runner.device_seconds if isinstance(runner, _OnDevice) else []
        events.clear()
        before = self._clock.processor()
        seconds = measure_round(runner, inputs, self._clock, self._job.min_seconds)
        return {
            "seconds": seconds,
            "processor_seconds": self._clock.processor() - before,
            "device_seconds": list(events),
        }

    def _correct(self, start: int, stop: int) -> bytes:
        """Return a bit for each image, set where it was classified rightly, the first one the highest of its byte."""
        bits = np.zeros(stop - start, bool)
        for first in range(start, stop, ACCURACY_BATCH):
            last = min(first + ACCURACY_BATCH, stop)
            logits = self._opened().run(self._job.contract.encode(np.array(self._images[first:last])))["logits"]
            named = logits.argmax(axis=1) == self._targets[first:last]
            # Not-a-number names no class.
            bits[first - start : last - start] = named & np.isfinite(logits).all(axis=1)
        return np.packbits(bits).tobytes()


class Answering(Protocol):
    """What answers the commands of one conversation."""

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do one command and return the reply."""


Begin = Callable[[str, Clock], Answering]
"""Makes what answers of the first line, which is a job."""


def begin(job: str, clock: Clock) -> Worker:
    """Begin the conversation about one row."""
    return Worker(Job.from_json(job), clock)


def serve(commands: TextIO, replies: TextIO, clock: Clock, begin: Begin = begin) -> None:
    """Answer until the commands end or one fails; a failure is the last reply, ``{"error": sentence}``."""
    worker: Answering | None = None
    for line in commands:
        try:
            if worker is None:
                worker = begin(line, clock)
                reply: dict[str, Any] = {}
            else:
                reply = worker.answer(json.loads(line))
        except ToolkitError as error:
            reply = {"error": str(error).partition("\n")[0]}
        except Exception as error:  # an engine may raise anything; the row says what
            reply = {"error": first_line(error)}
        replies.write(json.dumps(reply, allow_nan=False) + "\n")
        replies.flush()
        if "error" in reply:
            return


def main(begin: Begin = begin) -> None:
    """Serve on the standard streams."""
    # Engines print to standard output; what they print goes to standard error, so that it cannot be taken for a reply.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, replies, MonotonicClock(), begin)


if __name__ == "__main__":
    main()
