"""One version of a model, opened and tested on this machine, and what is done with requests for it.

Nothing here blocks the event loop: images are decoded and computed in threads (``toolkit.serving.batching``).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit import provenance
from toolkit.decoding_limits import MAX_PIXELS, TooLargeError
from toolkit.errors import BundleError, ImageError, PredictionError, UntrustedCodeError
from toolkit.formats.opening import WAYS_OUT
from toolkit.runtime import Prediction, Predictor, load
from toolkit.runtime.tuning import Purpose, is_tuned_here
from toolkit.serving.batching import Batcher, File, Item, Stages
from toolkit.serving.deadline import by_deadline
from toolkit.serving.interface import Limits, Observer, Outputs
from toolkit.serving.refusals import (
    BadRequest,
    ModelFailed,
    NotReady,
    Overloaded,
    Refusal,
    TooLarge,
    UnreadableImage,
)
from toolkit.serving.strategy import WORTH_IT, Run, Setting, Way, choose, measure, measured, wait_seconds, ways

_FORGETTING_SECONDS = 10.0
"""Of work after which what was seen of the rate counts half."""


@dataclass(frozen=True)
class Opening:
    """How bundles are opened: see ``toolkit.load``.

    No artifact that can carry code is opened unless its bundle is signed by the key, or was exported by this user on
    this machine: nobody can allow it for whatever will come later.

    Attributes:
        threads: of one call; None to measure what is best.
        batch_size: images in one call at most, 1 for one by one; None to measure what is best.
    """

    artifact: str | None = None
    device: str = "cpu"
    threads: int | None = None
    batch_size: int | None = None
    verify_key: Path | None = None

    def load(self, path: Path, max_pixels: int, threads: int | None, tuned: Purpose | None) -> Predictor:
        """Open a bundle and run its golden samples.

        Raises:
            BundleError: it cannot be opened, or has not passed on this machine.
            ToolkitError: as ``toolkit.load``.
        """
        try:
            predictor = load(
                path,
                artifact=self.artifact,
                device=self.device,
                threads=threads,
                verify_key=self.verify_key,
                max_pixels=max_pixels,
                tuned=tuned,
            )
        except UntrustedCodeError as error:
            way_out = "serve an artifact that is data, or give --verify-key for a bundle that is signed."
            raise UntrustedCodeError(str(error).replace(WAYS_OUT, way_out)) from error
        try:
            _require_golden_samples(predictor, path)
        except BaseException:
            predictor.close()
            raise
        return predictor


@dataclass(frozen=True)
class Engines:
    """What computes the images of one model.

    Attributes:
        path: of the bundle.
        many: for requests that come together.
        alone: with more threads for one call, for a request that is alone; the same where that gains nothing.
        setting: how ``many`` is called.
    """

    path: Path
    many: Predictor
    alone: Predictor
    setting: Setting

    def close(self) -> None:
        """Let go of both."""
        self.many.close()
        self.alone.close()


def open_engines(path: Path, opening: Opening, max_pixels: int = MAX_PIXELS) -> Engines:
    """Open a bundle in the way that is the best for it on this machine. Takes some seconds, most of them measuring.

    Where ``toolkit bench --sweep`` has found a setting for throughput on this machine, that is the way.

    Args:
        path: the bundle's folder.
        opening: how it is opened.
        max_pixels: of an image.

    Raises:
        ToolkitError: it cannot be opened, or has not passed its golden samples.
    """
    cores = provenance.default_threads()
    loaded: list[Predictor] = []

    def load_with(threads: int | None, tuned: Purpose | None = None) -> Predictor:
        loaded.append(opening.load(path, max_pixels, threads, tuned))
        return loaded[-1]

    kept: tuple[Predictor, ...] = ()
    try:
        wide = load_with(opening.threads or cores)
        image = _noise(wide)
        free = opening.threads is None and opening.batch_size is None
        if free and is_tuned_here(wide.artifact, opening.device, "throughput"):
            many = load_with(None, "throughput")
            setting = _tuned(many, image)
        else:
            tried = [way for way in ways(cores, opening.threads, opening.batch_size) if _fits(way, cores, opening)]
            by_threads = {opening.threads or cores: wide}
            for threads in {way.threads for way in tried} - set(by_threads):
                by_threads[threads] = load_with(threads)
            setting = choose(measured(tried, lambda way: by_threads[way.threads].run, image))
            many = by_threads[setting.way.threads]
        alone = wide if wide is not many and _is_quicker(wide, many, image) else many
        kept = (many, alone)
    finally:
        for predictor in loaded:
            if predictor not in kept:
                predictor.close()
    if alone is not many:
        setting = replace(setting, why=f"{setting.why}; what comes alone with {cores} threads")
    return Engines(path, many, alone, setting)


class Hosted:
    """A ``toolkit.serving.interface.Model``: one version of a model that is ready.

    Attributes:
        name: in the protocol.
        version: in the protocol.
        path: of its bundle.
        manifest: of its bundle.
        artifact: that is used.
        setting: how images are computed.
    """

    def __init__(self, name: str, version: str, engines: Engines, limits: Limits, observer: Observer) -> None:
        self.name = name
        self.version = version
        self.path = engines.path
        self.manifest = engines.many.manifest
        self.artifact = engines.many.artifact
        self.setting = engines.setting
        self._engines = engines
        self._limits = limits
        self._observer = observer
        self._most = min(limits.images, limits.queue)
        self._held = 0
        self._rate = _Rate(engines.setting.images_per_second)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requests: dict[Item, _Together] = {}
        """Of the items that are not done."""
        self._gathered: list[Item] = []
        """Items of this turn of the event loop."""
        self._batches: deque[tuple[int, float]] = deque()
        stages = Stages(self._prepare, engines.many.run, engines.alone.run, self._computed, self._finished)
        self._batcher = Batcher(stages, engines.setting, provenance.available_cores(), f"{name}/{version}")

    @property
    def images(self) -> int:
        """How many images wait or are computed now."""
        return self._held

    async def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """Compute the outputs of prepared pixels; see ``toolkit.serving.interface.Model``."""
        wanted = (self.manifest.preprocessing.height, self.manifest.preprocessing.width, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted or not len(pixels):
            raise BadRequest(
                f"the model takes uint8 [N, {wanted[0]}, {wanted[1]}, 3] pixels of at least one image, not "
                f"{pixels.dtype} {list(pixels.shape)}."
            )
        step = self._batcher.batch_size
        parts = await self._outputs([pixels[at : at + step] for at in range(0, len(pixels), step)], len(pixels))
        if refused := next((part for part in parts if isinstance(part, Refusal)), None):
            raise refused
        several = [part for part in parts if not isinstance(part, Refusal)]
        if len(several) == 1:
            outputs = several[0]
        else:
            outputs = {name: np.concatenate([part[name] for part in several]) for name in several[0]}
        if broken := next((name for name, values in outputs.items() if not np.isfinite(values).all()), None):
            raise ModelFailed(f"the model's {broken} of the images are not finite numbers.")
        for row in outputs["probabilities"]:
            best = int(row.argmax())
            self._observer.predicted(self.name, self.version, self.manifest.labels[best], float(row[best]))
        return outputs

    async def classify(self, files: Sequence[bytes | memoryview]) -> list[Prediction | Refusal]:
        """Decode and classify image files; see ``toolkit.serving.interface.Model``."""
        if not files:
            return []
        outcomes = [self._outcome(part) for part in await self._outputs(files, len(files))]
        for outcome in outcomes:
            if isinstance(outcome, Prediction):
                self._observer.predicted(self.name, self.version, outcome.label, outcome.probability)
        return outcomes

    def close(self) -> None:
        """Finish what was begun, end the threads, and let go of the model. Blocks; a second time does nothing."""
        self._closed = True
        self._batcher.close()
        self._engines.close()

    async def _outputs(
        self, given: Sequence[npt.NDArray[np.uint8]] | Sequence[File], images: int
    ) -> list[Outputs | Refusal]:
        """Compute the parts of a request; a refusal stands in the place of one that has no outputs.

        Raises:
            TooLarge: there are more images than one request may hold.
            Overloaded: there is no room for them now.
            NotReady: the model was closed.
            TimedOut: they could not be computed in time.
        """
        self._require_room(images)
        self._loop = loop = asyncio.get_running_loop()
        items = [Item(one) for one in given]
        together = _Together(len(items), loop.create_future())
        self._requests.update(dict.fromkeys(items, together))
        self._change(images)
        try:
            self._gather(items, loop)
            await by_deadline(together.done, self._limits.seconds)
        finally:
            if together.left:
                for item in items:
                    if self._requests.pop(item, None) is not None:
                        item.is_wanted = False
            self._change(-images)
        self._say_phases(items)
        return [item.outcome for item in items if item.outcome is not None]  # all of them

    def _gather(self, items: list[Item], loop: asyncio.AbstractEventLoop) -> None:
        """Hand items to the threads, with those of all other requests that this turn of the event loop brings.

        One by one they would wake a thread for each, which computes what it finds: calls of one image, and as many
        changes of the thread that Python lets run.
        """
        if not self._gathered:
            loop.call_soon(self._hand_over)
        self._gathered += items

    def _hand_over(self) -> None:
        items, self._gathered = self._gathered, []
        if not self._batcher.submit(items):
            for item in items:
                together = self._requests.pop(item, None)
                if together is not None and not together.done.done():
                    together.done.set_exception(self._replaced())

    def _say_phases(self, items: list[Item]) -> None:
        queue = decode = compute = 0.0
        for item in items:
            queue, decode = max(queue, item.queue_seconds), max(decode, item.decode_seconds)
            compute = max(compute, item.compute_seconds)
        self._observer.phases(self.name, self.version, {"queue": queue, "decode": decode, "compute": compute})

    def _require_room(self, images: int) -> None:
        """Refuse what cannot be taken now: see ``_outputs``."""
        if images > self._most:
            raise TooLarge(f"the request holds {images} images, and may hold {self._most}: send fewer at once.")
        if self._closed:
            raise self._replaced()
        if self._held + images > self._limits.queue:
            raise Overloaded(
                f"{self._held} images wait or are computed for {self.name}, and there is room for "
                f"{self._limits.queue}: come back later.",
                retry_after=self._rate.seconds_for(self._held),
            )

    def _replaced(self) -> NotReady:
        return NotReady(f"version {self.version} of {self.name} has just been replaced.", retry_after=0.0)

    def _change(self, images: int) -> None:
        self._rate.changed(self._held, max(0, -images))
        self._held += images
        self._observer.queued(self.name, self.version, self._held)

    def _outcome(self, part: Outputs | Refusal) -> Prediction | Refusal:
        if isinstance(part, Refusal):
            return part
        outcome = self._engines.many.outcome(b"", part, 0)
        return ModelFailed(str(outcome)) if isinstance(outcome, PredictionError) else outcome

    def _prepare(self, file: File) -> npt.NDArray[np.uint8]:
        try:
            return self._engines.many.prepare(file)
        except ImageError as error:
            large = isinstance(error.__cause__, TooLargeError)
            raise (TooLarge if large else UnreadableImage)(str(error)) from error

    def _computed(self, images: int, seconds: float) -> None:
        """Told in a thread of a batch that was computed; observers are told in the event loop."""
        self._batches.append((images, seconds))

    def _finished(self, items: Sequence[Item]) -> None:
        """Told in a thread of items that are done: the event loop is woken once for all of them."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._deliver, items)

    def _deliver(self, items: Sequence[Item]) -> None:
        while self._batches:
            self._observer.batch(self.name, self.version, *self._batches.popleft())
        for item in items:
            together = self._requests.pop(item, None)
            if together is not None:
                together.left -= 1
                if not together.left and not together.done.done():
                    together.done.set_result(None)


@dataclass
class _Together:
    """The items of one request.

    Attributes:
        left: how many are not done.
        done: is set once all are.
    """

    left: int
    done: asyncio.Future[None]


@dataclass
class _Rate:
    """How many images a second are answered while there are some to answer; recent ones count more."""

    first: float
    """A guess to begin with."""
    clock: Callable[[], float] = time.monotonic
    _images: float = field(init=False)
    _seconds: float = field(init=False, default=1.0)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._images = self.first * self._seconds
        self._last = self.clock()

    def changed(self, held: int, answered: int) -> None:
        """Note that some of the images that are held were answered, or that some were added."""
        now = self.clock()
        if held:
            self._seconds += now - self._last
            self._images += answered
        self._last = now
        if self._seconds > _FORGETTING_SECONDS:
            self._seconds, self._images = self._seconds / 2, self._images / 2

    def seconds_for(self, images: int) -> float:
        """Return how long so many images take: at least a second, for the header counts in whole ones."""
        return float(min(3600, max(1, math.ceil(images * self._seconds / max(self._images, 1e-3)))))


def _require_golden_samples(predictor: Predictor, path: Path) -> None:
    result = predictor.selftest()
    if result.missing is not None:
        raise BundleError(result.missing)
    if result.failures:
        raise BundleError(
            f"{predictor.artifact.file} of {path} does not compute its golden samples on this machine: "
            f"{result.failures[0]}. It is not served; 'toolkit selftest' says more."
        )


def _noise(predictor: Predictor) -> npt.NDArray[np.uint8]:
    pre = predictor.manifest.preprocessing
    return np.random.default_rng(0).integers(0, 256, (pre.height, pre.width, 3), dtype=np.uint8)


def _fits(way: Way, cores: int, opening: Opening) -> bool:
    """Tell whether a way makes sense on the device: a GPU computes one call at a time, whatever the threads."""
    return opening.device == "cpu" or way.threads == (opening.threads or cores)


def _tuned(predictor: Predictor, image: npt.NDArray[np.uint8]) -> Setting:
    tuned = predictor.tuned
    assert tuned is not None
    way = Way(tuned.batch_size, tuned.streams, tuned.threads)
    found = measure(way, predictor.run, image)
    why = f"{way} ({found.images_per_second:.0f} img/s here), as 'toolkit bench --sweep' found best for throughput"
    return Setting(way, found.images_per_second, wait_seconds(found), why)


def _is_quicker(one: Predictor, other: Predictor, image: npt.NDArray[np.uint8]) -> bool:
    """Tell whether one computes a single image quicker than the other by so much that it is worth its memory."""
    # Two ways that stand for the two: measured in turns like any others.
    engines: dict[Way, Run] = {Way(1, 1, 1): one.run, Way(1, 1, 2): other.run}
    rates = {found.way: found.images_per_second for found in measured(engines, engines.__getitem__, image)}
    first, second = (rates[way] for way in engines)
    return first > WORTH_IT * second
