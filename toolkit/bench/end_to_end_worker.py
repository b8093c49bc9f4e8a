"""The process behind the time from files to labels: ``python -m toolkit.bench.end_to_end_worker``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.bench.clock import Clock
from toolkit.bench.worker import main
from toolkit.preprocess import decoded_for, prepare
from toolkit.results import Record
from toolkit.runtime import Predictor, load

PHASES_SECONDS = 0.5
"""About how long the parts of one image are measured."""
LEAST_PASSES = 3


class EndToEndJob(Record):
    """What a worker is asked to do."""

    bundle: str
    artifact: str
    """Its format."""
    device: str
    threads: int
    allow_code: bool
    max_pixels: int
    files: str
    """A folder: image files, in the order of their names."""
    min_seconds: float
    """Least measured time of one round."""


class EndToEndWorker:
    """Classifies the bytes of image files. Creating it loads the bundle and the files."""

    def __init__(self, job: EndToEndJob, clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self._files = [path.read_bytes() for path in sorted(Path(job.files).iterdir())]
        self._predictor = self._load(job.threads)
        self._predictor.predict(self._files, len(self._files))  # which is not measured

    def _load(self, threads: int) -> Predictor:
        job = self._job
        return load(
            job.bundle,
            job.artifact,
            job.device,
            threads,
            allow_code=job.allow_code,
            max_pixels=job.max_pixels,
        )

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Do one command: ``measure`` a round, or the ``phases`` of one image."""
        match command["do"]:
            case "measure":
                return self._measure()
            case "phases":
                return {**phases(self._load(1), self._files, self._clock, PHASES_SECONDS)}
            case unknown:
                raise ValueError(f"no command {unknown!r}")

    def _measure(self) -> dict[str, Any]:
        """Classify all files in one call, again and again until there was enough time."""
        images = 0
        start, busy = self._clock.now(), time.process_time()
        while not images or self._clock.now() - start < self._job.min_seconds:
            self._predictor.predict(self._files, len(self._files))
            images += len(self._files)
        return {
            "images": images,
            "seconds": self._clock.now() - start,
            "processor_seconds": time.process_time() - busy,
        }


def phases(predictor: Predictor, files: Sequence[bytes], clock: Clock, seconds: float) -> dict[str, float]:
    """Return the seconds of one image that go into ``decode``, ``resize``, ``call`` and ``other``.

    One image after another in this thread. Preparation as a whole, resizing of pixels that are decoded, the call, and
    all of it are timed one after the other for each image, in several passes over the images; what counts is the median
    over the passes, and the mean over the images of that. Decoding is preparation less resizing, and other what is left
    of the whole.

    Args:
        predictor: with one thread.
        files: the bytes of image files.
        clock: what measures.
        seconds: about how long to measure. The first pass takes as many images as fit into a third of that, and at
            least one.
    """
    begun = clock.now()
    first: list[list[float]] = []
    works: list[tuple[Callable[[], object], ...]] = []
    for content in files:
        works.append(_works(predictor, content))
        first.append([_timed(work, clock) for work in works[-1]])
        if clock.now() - begun > seconds / LEAST_PASSES:
            break
    passes = [first]
    while len(passes) < LEAST_PASSES or clock.now() - begun < seconds:
        passes.append([[_timed(work, clock) for work in image] for image in works])
    prepared, resized, called, whole = (float(value) for value in np.median(passes, axis=0).mean(axis=0))
    return {
        "decode": max(0.0, prepared - resized),
        "resize": min(prepared, resized),
        "call": called,
        "other": max(0.0, whole - prepared - called),
    }


def _works(predictor: Predictor, content: bytes) -> tuple[Callable[[], object], ...]:
    """Return preparation, resizing, the call, and all of it."""
    pre, limit = predictor.manifest.preprocessing, predictor.max_pixels
    decoded, pixels = decoded_for(content, pre, limit), prepare(content, pre, limit)[None]
    return (
        lambda: prepare(content, pre, limit),
        lambda: prepare(decoded, pre, limit),
        lambda: predictor.run(pixels),
        lambda: predictor.predict([content], 1),
    )


def _timed(work: Callable[[], object], clock: Clock) -> float:
    start = clock.now()
    work()
    return clock.now() - start


def begin(job: str, clock: Clock) -> EndToEndWorker:
    """Begin the conversation about one artifact."""
    return EndToEndWorker(EndToEndJob.from_json(job), clock)


if __name__ == "__main__":
    main(begin)
