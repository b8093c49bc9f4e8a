"""The process that tries settings of one artifact: ``python -m toolkit.bench.settings_worker``.

Each stream is a thread with a session of its own, and all of them call at the same time. Sessions stay open, because
rounds come back to them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.bench.clock import Clock
from toolkit.bench.job import Job
from toolkit.bench.measure import MIN_CALLS
from toolkit.bench.worker import main
from toolkit.formats.base import Session


class SettingsWorker:
    """Answers commands about one artifact under any setting. Creating it imports the engine."""

    def __init__(self, job: Job, clock: Clock) -> None:
        module, _, function = job.factory.partition(":")
        self._factory = getattr(import_module(module), function)
        self._factory(job.arguments)
        self._job = job
        self._clock = clock
        self._images = np.load(job.images, mmap_mode="r")
        self._sessions: dict[tuple[int, bool | None], list[Session]] = {}
        self._threads: list[ThreadPoolExecutor] = []
        self._warm: set[tuple[int, bool | None, int, int]] = set()

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do the one command there is, ``measure``: batch size, threads, streams, and spinning where it is given.

        Returns:
            ``device``, and ``seconds``: those of each call of each stream.
        """
        if command["do"] != "measure":
            raise ValueError(f"no command {command['do']!r}")
        setting = (command["threads"], command.get("spinning"), command["streams"], command["batch_size"])
        sessions, inputs = self._opened(*setting[:3]), self._batch(setting[3])
        # What is measured for the first time chooses its kernels and fills its memory pools; later, one call wakes it.
        self._measure(sessions, inputs, 0.0 if setting in self._warm else self._job.min_seconds, 1)
        self._warm.add(setting)
        seconds = self._measure(sessions, inputs, self._job.min_seconds, MIN_CALLS)
        return {"device": sessions[0].device, "seconds": seconds}

    def _opened(self, threads: int, spinning: bool | None, streams: int) -> list[Session]:
        """Return as many sessions as there are streams."""
        sessions = self._sessions.setdefault((threads, spinning), [])
        told = {} if spinning is None else {"spinning": spinning}
        while len(sessions) < streams:
            sessions.append(self._factory({**self._job.arguments, "threads": threads, **told})())
        return sessions[:streams]

    def _batch(self, size: int) -> npt.NDArray[np.generic]:
        return self._job.contract.encode(self._images[np.arange(size) % len(self._images)])

    def _measure(
        self, sessions: Sequence[Session], inputs: npt.NDArray[np.generic], min_seconds: float, min_calls: int
    ) -> list[list[float]]:
        """Call all sessions at the same time, each from a thread that is always the same one.

        A stream that has enough goes on until all have, so that each was measured beside the others.
        """
        while len(self._threads) < len(sessions):  # OpenMP keeps its helpers for each thread that calls
            self._threads.append(ThreadPoolExecutor(1, thread_name_prefix="toolkit-stream"))
        together = Together(len(sessions))

        def stream(session: Session) -> list[float]:
            seconds: list[float] = []
            total = 0.0
            with together:
                while together.wanted(len(seconds) >= min_calls and total >= min_seconds):
                    start = self._clock.now()
                    session.run(inputs)
                    seconds.append(self._clock.now() - start)
                    total += seconds[-1]
            return seconds

        waiting = [thread.submit(stream, session) for thread, session in zip(self._threads, sessions, strict=False)]
        return [future.result() for future in waiting]


class Together:
    """Streams that begin at the same moment and go on until each of them has enough, or one has failed."""

    def __init__(self, streams: int) -> None:
        self._begin = threading.Barrier(streams)
        self._lock = threading.Lock()
        self._satisfied: set[int] = set()
        self._streams = streams
        self._failed = False

    def __enter__(self) -> None:
        self._begin.wait()

    def wanted(self, enough: bool) -> bool:
        """Say whether the calling stream is to call once more; it says whether it has enough itself."""
        with self._lock:
            if enough:
                self._satisfied.add(threading.get_ident())
            return not self._failed and len(self._satisfied) < self._streams

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._failed = True


def begin(job: str, clock: Clock) -> SettingsWorker:
    """Begin the conversation about one artifact."""
    return SettingsWorker(Job.from_json(job), clock)


if __name__ == "__main__":
    main(begin)
