"""The process behind the time from files to labels: ``python -m toolkit.bench.end_to_end_worker``."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from toolkit.bench.clock import Clock
from toolkit.bench.worker import main
from toolkit.errors import ImageError
from toolkit.preprocess import decode, prepare
from toolkit.results import Record
from toolkit.runtime import Predictor, load

PHASES_SECONDS = 0.5
"""About how long the parts of one image are measured."""


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
    all of it are timed one after the other for each image; decoding is preparation less resizing, and other what is
    left of the whole. Means over the images of the median time of each.

    Args:
        predictor: with one thread.
        files: the bytes of image files.
        clock: what measures.
        seconds: about how long to measure. Each of the first images is measured three times in any case.
    """

    def timed(work: Callable[[], object]) -> float:
        start = clock.now()
        work()
        return clock.now() - start

    pre, limit = predictor.manifest.preprocessing, predictor.max_pixels
    begun, images = clock.now(), []
    for position, content in enumerate(files):
        if position and clock.now() - begun > seconds:
            break
        decoded = _decoded(content, limit)
        pixels = prepare(content, pre, limit)[None]
        works = (
            lambda content=content: prepare(content, pre, limit),
            lambda decoded=decoded: prepare(decoded, pre, limit),
            lambda pixels=pixels: predictor.run(pixels),
            lambda content=content: predictor.predict([content], 1),
        )
        images.append(np.median([[timed(work) for work in works] for _ in range(3)], axis=0))
    prepared, resized, called, whole = np.mean(images, axis=0)
    return {
        "decode": float(max(0.0, prepared - resized)),
        "resize": float(min(prepared, resized)),
        "call": float(called),
        "other": float(max(0.0, whole - prepared - called)),
    }


def _decoded(content: bytes, limit: int) -> Image.Image:
    """Return a picture to resize; of one that only a linear rule reads (see ``Preprocessing``), its size is enough."""
    try:
        return Image.fromarray(decode(content, limit))
    except ImageError:
        with Image.open(io.BytesIO(content)) as image:
            return Image.new("RGB", image.size)


def begin(job: str, clock: Clock) -> EndToEndWorker:
    """Begin the conversation about one artifact."""
    return EndToEndWorker(EndToEndJob.from_json(job), clock)


if __name__ == "__main__":
    main(begin)
