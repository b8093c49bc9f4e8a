"""``Predictor``: what a service embeds.

Numpy, Pillow and the artifact's own engine; never torch for an ONNX artifact.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from toolkit.bundle import ArtifactRecord, Manifest
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import (
    MOST_THREADS,
    BundleError,
    ImageError,
    PredictionError,
    ToolkitError,
    first_line,
    require_count,
    require_flag,
)
from toolkit.formats.base import Session
from toolkit.preprocess import ImageSource, describe, is_one_image, prepare
from toolkit.results import Tuned
from toolkit.runtime.opening import Opened, Opening, opened, opened_again
from toolkit.runtime.processes import ProcessSession, ProcessThreads, call_engine
from toolkit.runtime.streaming import Outputs, Stages, computed
from toolkit.runtime.tuning import Purpose, require_purpose

if TYPE_CHECKING:
    from toolkit.runtime.selftest import Selftest

BATCH_SIZE = 32
"""Images per call of the engine where nobody says."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one image. Two are equal if all of it is, to the bit."""

    label: str
    """The most probable class."""
    probability: float
    """Its probability, 0 to 1."""
    index: int
    """Its position in the labels."""
    probabilities: npt.NDArray[np.float32]
    """Of every class, ``[C]``, in the order of the labels."""
    logits: npt.NDArray[np.float32]
    """Before softmax, ``[C]``."""
    labels: tuple[str, ...]
    """All class names in order."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        return (
            self.labels == other.labels
            and np.array_equal(self.logits, other.logits)
            and np.array_equal(self.probabilities, other.probabilities)
        )

    def __hash__(self) -> int:
        return hash((self.label, self.probability))

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Return the ``k`` most probable classes with their probabilities, best first.

        Raises:
            ToolkitError: ``k`` is no whole number of at least 1.
        """
        best = np.argsort(-self.probabilities, kind="stable")[: require_count("k", k)]
        return [(self.labels[index], float(self.probabilities[index])) for index in best]


class Predictor:
    """A bundle's artifact, opened and ready.

    Safe under concurrent calls. A pickle or a copy of it opens the same bundle again, and so does the first call in a
    process that was forked from the one that loaded it. Its threads are started when there are several images to
    decode, and stay until it is closed or dropped; as a context manager it closes itself.

    Attributes:
        manifest: the bundle's manifest.
        artifact: the artifact in use.
        max_pixels: images of more pixels are refused before they are decoded (see ``toolkit.preprocess.decode``).
        tuned: the measured setting in use; None where none was asked for, or where it was measured on another machine.
    """

    def __init__(self, made: Opened, opening: Opening) -> None:
        tuned = made.tuned  # named by itself, so that what opens it again does not hold what is open
        self._bundle = made.bundle
        self.manifest: Manifest = made.bundle.manifest
        self.artifact: ArtifactRecord = made.artifact
        self.max_pixels = opening.max_pixels
        self.tuned: Tuned | None = tuned
        self._opening = opening
        self._streams = tuple(
            ProcessSession(session, lambda: opened_again(opening, tuned)) for session in made.sessions
        )
        self._threads = ProcessThreads(sum(session.threads for session in made.sessions), "toolkit-decode")
        # Counting is one step that threads cannot share, so it needs no lock, which a fork could take along.
        self._turn = count()

    def __reduce__(self) -> tuple[Callable[[Opening], Predictor], tuple[Opening]]:
        """Pickle and copy by opening the bundle again."""
        self._require_open()
        return _open, (self._opening,)

    def __enter__(self) -> Self:
        """Return itself."""
        self._require_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """End its threads and let go of the artifact; a second time does nothing.

        Calls that are under way in other threads finish, or end in the error that every later use ends in. What was
        read of the bundle, ``manifest`` for instance, stays.
        """
        for stream in self._streams:
            stream.close()
        self._threads.end()

    def _require_open(self) -> None:
        self._streams[0].require_open()

    @property
    def session(self) -> Session:
        """The opened artifact; ``session.device`` says where it runs."""
        return call_engine(self._streams[0].get)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.manifest.labels

    def prepare(self, source: ImageSource) -> npt.NDArray[np.uint8]:
        """Decode an image and bring it to the model's size, which is what ``run`` takes several of.

        Args:
            source: one image (see ``predict``).

        Returns:
            uint8 ``[H, W, 3]`` RGB.

        Raises:
            ImageError: naming the source and the reason.
            ToolkitError: the predictor was closed.
        """
        self._require_open()
        return prepare(source, self.manifest.preprocessing, self.max_pixels)

    def run(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Run prepared pixels through the graph.

        Args:
            images: uint8 ``[N, H, W, 3]`` RGB at the model's size (``numpy.stack`` of what ``prepare`` returns).

        Returns:
            ``logits`` and ``probabilities``, float32 ``[N, C]``.

        Raises:
            ImageError: another dtype or shape.
            BundleError: the engine cannot run it, or it has not one output per label.
            ToolkitError: the predictor was closed.
        """
        self._require_open()
        pre = self.manifest.preprocessing
        wanted = (pre.height, pre.width, 3)
        if not isinstance(images, np.ndarray):
            raise ImageError(f"run takes one array of prepared pixels, not {type(images).__name__}: see predict.")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
            raise ImageError(
                f"the model takes uint8 [N, {pre.height}, {pre.width}, 3] pixels, not {images.dtype} "
                f"{list(images.shape)}."
            )
        inputs = self.manifest.input.encode(images)
        try:
            outputs = call_engine(lambda: self._next().get().run(inputs))
        except ToolkitError:
            raise
        except Exception as error:  # an engine may raise anything, e.g. where there is no memory for what a graph wants
            raise BundleError(
                f"{self.artifact.file} cannot run a batch of {len(images)}: {first_line(error)}"
            ) from error
        if any(outputs[name].shape != (len(images), len(self.labels)) for name in ("logits", "probabilities")):
            raise BundleError(
                f"{self.artifact.file} returns {_shapes(outputs)} for {len(images)} images and {len(self.labels)} "
                "labels. The bundle was put together from two: export it again."
            )
        return outputs

    def selftest(self) -> Selftest:
        """Run the bundle's golden samples and compare with what was expected of them at export.

        A service may call it once at start. ``toolkit.runtime.selftest`` takes other limits.

        Raises:
            BundleError: the bundle has no golden samples, or they are malformed.
        """
        from toolkit.runtime.selftest import selftest  # a service that does not ask for it need not import it

        return call_engine(lambda: selftest(self._bundle, self.artifact, self._streams[0].get()))

    def _next(self) -> ProcessSession:
        """Return the session of the stream whose turn it is."""
        return self._streams[next(self._turn) % len(self._streams)]

    def predict(self, sources: Iterable[ImageSource] | ImageSource, batch_size: int | None = None) -> list[Prediction]:
        """Classify images.

        Args:
            sources: paths, encoded bytes, open binary files, PIL images or uint8 arrays ``[h, w]``, ``[h, w, 1|3|4]``
                of any size; one alone is a list of one.
            batch_size: images per call of the engine, at least 1; by default that of the tuned setting, or 32.

        Raises:
            ImageError: an image cannot be decoded, or the model's output for it is not finite; the message names it.
            ToolkitError: ``batch_size`` is no such number.
        """
        results = []
        several: Iterable[Any] = [sources] if is_one_image(sources) else sources  # type: ignore[assignment]  # is_one_image told them apart
        for _, outcome in self.stream(several, batch_size):
            if isinstance(outcome, ImageError):
                raise outcome
            results.append(outcome)
        return results

    def stream(
        self, sources: Iterable[Any], batch_size: int | None = None
    ) -> Iterator[tuple[Any, Prediction | ImageError]]:
        """Classify any number of images with bounded memory, in order.

        The next images are decoded while the engine works, so sources are read ahead of the outcomes, in the thread
        that asks for them: up to two batches more than the engine has at once, and with parallel streams a batch more
        for each of them. Nothing is read or decoded any further while nobody asks for the next outcome. Of a camera,
        give ``predict`` one image at a time.

        Yields:
            Each source with its prediction, or with the error that says why it has none (``PredictionError`` where the
            model's output is not finite). What the sources themselves raise comes after the outcomes of all that they
            gave before.

        Raises:
            ImageError: the sources are nothing that holds images.
            ToolkitError: ``batch_size`` is no whole number of at least 1, or the predictor was closed.
        """
        self._require_open()
        if isinstance(sources, Mapping) or not isinstance(sources, Iterable) or is_one_image(sources):
            raise ImageError(
                f"images are given one by one or as a list, not as {type(sources).__name__}: give paths, bytes of "
                "image files, binary files that are open, Pillow images or uint8 arrays."
            )
        if batch_size is None:
            batch_size = BATCH_SIZE if self.tuned is None else self.tuned.batch_size
        return self._outcomes(iter(sources), min(require_count("batch_size", batch_size), sys.maxsize))

    def _outcomes(self, sources: Iterator[Any], batch_size: int) -> Iterator[tuple[Any, Prediction | ImageError]]:
        stages = Stages(self._prepared, self.run, self._threads, batch_size, len(self._streams))
        with contextlib.closing(computed(sources, stages)) as batches:
            for batch in batches:
                row = 0
                for source, error in zip(batch.sources, batch.errors, strict=True):
                    if error is not None:
                        yield source, error
                    else:
                        yield source, self.outcome(source, batch.outputs, row)
                        row += 1

    def _prepared(self, source: ImageSource) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return self.prepare(source)
        except ImageError as error:
            return error

    def outcome(self, source: ImageSource, outputs: Outputs, row: int) -> Prediction | PredictionError:
        """Say what the outputs of ``run`` mean.

        Args:
            source: which image it is, for the message.
            outputs: what ``run`` returned.
            row: of the image, from 0.

        Returns:
            The prediction, or why there is none: a number that is not finite.
        """
        broken = next((name for name, values in outputs.items() if not np.isfinite(values[row]).all()), None)
        if broken is None:
            return self._prediction(outputs, row)
        return PredictionError(
            f"{describe(source)} has no prediction: the model's {broken} of it are not finite numbers. Run 'toolkit "
            "selftest', and try another artifact of the bundle."
        )

    def _prediction(self, outputs: Outputs, row: int) -> Prediction:
        probabilities = outputs["probabilities"][row]
        index = int(probabilities.argmax())
        return Prediction(
            label=self.labels[index],
            probability=float(probabilities[index]),
            index=index,
            probabilities=probabilities,
            logits=outputs["logits"][row],
            labels=self.labels,
        )


def load(  # noqa: PLR0913 - what a service says in one call, each by its name
    path: str | Path,
    artifact: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    verify_key: str | Path | None = None,
    allow_code: bool = False,
    max_pixels: int = MAX_PIXELS,
    spinning: bool | None = None,
    tuned: Purpose | None = None,
) -> Predictor:
    """Open a bundle for prediction. Every file is checked against the manifest before an engine sees it.

    Args:
        path: the bundle's folder, or a run folder that has one.
        artifact: format to use, e.g. ``"onnx"``; the bundle's preferred one by default.
        device: ``"cpu"`` or ``"cuda"``. A device that cannot be used is an error, never a silent change.
        threads: CPU threads per call; by default all cores of this process, which may be fewer
            in a container, and no more than OMP_NUM_THREADS where that is set.
        verify_key: PEM file of the public key that must have signed the bundle; checked before anything of the bundle
            is parsed.
        allow_code: open an artifact that can carry code (TorchScript, pt2, AOTInductor) whoever made the bundle.
            Without it, such an artifact is opened where this user exported the bundle on this machine, or with
            ``verify_key``; anywhere else the preferred artifact is one that is data.
        max_pixels: images of more pixels are refused before they are decoded, and the images that threads decode at
            the same time have at most so many together.
        spinning: whether idle threads of the engine wait in a loop for the next piece of work. By default they sleep,
            which leaves the cores to others; on cores of its own a call may be quicker with True. Of the formats here
            those of onnxruntime can be told.
        tuned: ``"latency"`` or ``"throughput"``: use the threads, batch size, parallel streams and spinning that
            ``toolkit bench --sweep`` found to be the best for one image, or for images per second, on a machine with
            the same processor. On another machine a ``NotTunedHereWarning`` says so, and the defaults are used. Each
            stream is a session of its own, with the memory of one.

    Raises:
        ToolkitError: ``threads`` or ``max_pixels`` is no whole number of at least 1, ``threads`` is more than any
            machine has, or ``allow_code`` or ``spinning`` is neither True nor False.
        BundleError: no bundle there, no such artifact, or none that was tuned where ``tuned`` is given.
        ToolkitError: the artifact's engine cannot be told whether to spin, or ``tuned`` is no such purpose, or stands
            beside ``threads`` or ``spinning``, which it decides.
        UntrustedCodeError: the artifact can carry code, and nobody vouches for the bundle.
        SignatureError: with ``verify_key``, the bundle is not signed by that key; without, its signature is stale.
        IntegrityError: a file is not the one that the manifest describes.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the artifact's engine is not installed.
    """
    if threads is not None:
        threads = require_count("threads", threads, MOST_THREADS)
    require_flag("allow_code", allow_code)
    if spinning is not None:
        require_flag("spinning", spinning)
    if tuned is not None and (threads is not None or spinning is not None):
        raise ToolkitError(
            f"tuned={require_purpose(tuned)!r} decides threads and spinning itself: leave them out, or tuned."
        )
    return _open(
        Opening(
            path=_path("a bundle", path),
            artifact=artifact,
            device=device,
            threads=threads,
            verify_key=None if verify_key is None else _path("verify_key", verify_key),
            allow_code=allow_code,
            max_pixels=require_count("max_pixels", max_pixels),
            spinning=spinning,
            tuned=None if tuned is None else require_purpose(tuned),
        )
    )


def _path(what: str, given: Any) -> Path:
    """Return a path; a text that is empty is none, and least of all a key that was left out."""
    if not isinstance(given, str | os.PathLike) or not os.fspath(given) or isinstance(os.fspath(given), bytes):
        raise BundleError(f"{what} is {given!r}: give a path that is not empty, as text or as pathlib.Path.")
    return Path(given)


def _shapes(outputs: dict[str, npt.NDArray[np.float32]]) -> str:
    return " and ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())


def _open(opening: Opening) -> Predictor:
    made = call_engine(lambda: opened(opening))
    return Predictor(made, opening.of(made.bundle, made.artifact))
