"""``Predictor``: what a service embeds.

Numpy, Pillow and the artifact's own engine; never torch for an ONNX artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.bundle import ArtifactRecord, Bundle, Manifest
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.errors import ImageError, PredictionError, require_count
from toolkit.formats.base import Session
from toolkit.formats.registry import get_format
from toolkit.preprocess import ImageSource, describe, is_one_image, prepare
from toolkit.provenance import available_cores
from toolkit.runtime.selftest import Selftest, selftest


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image."""

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

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Return the ``k`` most probable classes with their probabilities, best first.

        Raises:
            ToolkitError: ``k`` is no whole number of at least 1.
        """
        best = np.argsort(-self.probabilities, kind="stable")[: require_count("k", k)]
        return [(self.labels[index], float(self.probabilities[index])) for index in best]


class Predictor:
    """A bundle's artifact, opened and ready.

    Attributes:
        manifest: the bundle's manifest.
        artifact: the artifact in use.
        session: the opened artifact; ``session.device`` says where it runs.
        max_pixels: images of more pixels are refused before they are decoded (see ``toolkit.preprocess.decode``).
    """

    def __init__(
        self, bundle: Bundle, artifact: ArtifactRecord, session: Session, max_pixels: int = MAX_PIXELS
    ) -> None:
        self._bundle = bundle
        self.manifest: Manifest = bundle.manifest
        self.artifact = artifact
        self.session = session
        self.max_pixels = require_count("max_pixels", max_pixels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.manifest.labels

    def run(self, images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Run prepared pixels through the graph.

        Args:
            images: uint8 ``[N, H, W, 3]`` RGB at the model's size (``toolkit.preprocess.prepare``).

        Returns:
            ``logits`` and ``probabilities``, float32 ``[N, C]``.

        Raises:
            ImageError: another dtype or shape.
        """
        pre = self.manifest.preprocessing
        wanted = (pre.height, pre.width, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
            raise ImageError(
                f"the model takes uint8 [N, {pre.height}, {pre.width}, 3] pixels, not {images.dtype} "
                f"{list(images.shape)}."
            )
        return self.session.run(self.manifest.input.encode(images))

    def selftest(self) -> Selftest:
        """Run the bundle's golden samples and compare with the outputs that PyTorch gave.

        A service may call it once at start.

        Raises:
            BundleError: the bundle has no golden samples, or they are malformed.
        """
        return selftest(self._bundle, self.artifact, self.session)

    def predict(self, sources: Iterable[ImageSource] | ImageSource, batch_size: int = 32) -> list[Prediction]:
        """Classify images.

        Args:
            sources: paths, encoded bytes, open binary files, PIL images or uint8 arrays ``[h, w]``, ``[h, w, 1|3|4]``
                of any size; one alone is a list of one.
            batch_size: images per call of the engine, at least 1.

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

    def stream(self, sources: Iterable[Any], batch_size: int = 32) -> Iterator[tuple[Any, Prediction | ImageError]]:
        """Classify any number of images with bounded memory, in order.

        Yields:
            Each source with its prediction, or with the error that says why it has none (``PredictionError`` where the
            model's output is not finite).

        Raises:
            ImageError: the sources are nothing that holds images.
            ToolkitError: ``batch_size`` is no whole number of at least 1.
        """
        if isinstance(sources, Mapping) or not isinstance(sources, Iterable) or is_one_image(sources):
            raise ImageError(
                f"images are given one by one or as a list, not as {type(sources).__name__}: give paths, bytes of "
                "image files, binary files that are open, Pillow images or uint8 arrays."
            )
        return self._outcomes(iter(sources), require_count("batch_size", batch_size))

    def _outcomes(self, waiting: Iterator[Any], batch_size: int) -> Iterator[tuple[Any, Prediction | ImageError]]:
        with ThreadPoolExecutor(max_workers=self.session.threads, thread_name_prefix="toolkit-decode") as pool:
            while chunk := list(islice(waiting, batch_size)):
                prepared = list(pool.map(self._prepare, chunk))
                images = [item for item in prepared if isinstance(item, np.ndarray)]
                outputs = self.run(np.stack(images)) if images else {}
                row = 0
                for source, item in zip(chunk, prepared, strict=True):
                    if isinstance(item, ImageError):
                        yield source, item
                    else:
                        yield source, self._outcome(source, outputs, row)
                        row += 1

    def _prepare(self, source: ImageSource) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return prepare(source, self.manifest.preprocessing, self.max_pixels)
        except ImageError as error:
            return error

    def _outcome(
        self, source: ImageSource, outputs: dict[str, npt.NDArray[np.float32]], row: int
    ) -> Prediction | PredictionError:
        broken = next((name for name, values in outputs.items() if not np.isfinite(values[row]).all()), None)
        if broken is None:
            return self._prediction(outputs, row)
        return PredictionError(
            f"{describe(source)} has no prediction: the model's {broken} of it are not finite numbers. Run 'toolkit "
            "selftest', and try another artifact of the bundle."
        )

    def _prediction(self, outputs: dict[str, npt.NDArray[np.float32]], row: int) -> Prediction:
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


def load(
    path: str | Path,
    artifact: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    verify_key: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Predictor:
    """Open a bundle for prediction. Every file is checked against the manifest before an engine sees it.

    Args:
        path: the bundle's folder, or a run folder that has one.
        artifact: format to use, e.g. ``"onnx"``; the bundle's preferred one by default.
        device: ``"cpu"`` or ``"cuda"``. A device that cannot be used is an error, never a silent change.
        threads: CPU threads per call; all cores of this process by default.
        verify_key: PEM file of the public key that must have signed the bundle; checked before anything of the bundle
            is parsed.
        max_pixels: images of more pixels are refused before they are decoded, and the images that threads decode at
            the same time have at most so many together.

    Raises:
        ToolkitError: ``threads`` or ``max_pixels`` is no whole number of at least 1.
        BundleError: no bundle there, or no such artifact.
        SignatureError: with ``verify_key``, the bundle is not signed by that key; without, its signature is stale.
        IntegrityError: a file is not the one that the manifest describes.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the artifact's engine is not installed.
    """
    cores = available_cores() if threads is None else require_count("threads", threads)
    require_count("max_pixels", max_pixels)
    bundle = Bundle.open(path, verify_key)
    record = bundle.artifact(artifact)
    session = get_format(record.format, record.family).open(bundle.file(record.file), device, cores)
    return Predictor(bundle, record, session, max_pixels)
