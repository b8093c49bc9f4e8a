"""``Predictor``: what a service embeds.

Numpy, Pillow and the artifact's own engine; never torch for an ONNX artifact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.bundle import ArtifactRecord, Bundle, Manifest
from toolkit.errors import BundleError, ImageError, first_line
from toolkit.formats.base import Session
from toolkit.formats.opening import choose_artifact, open_artifact
from toolkit.preprocess import ImageSource, prepare
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
        """Return the ``k`` most probable classes with their probabilities, best first."""
        best = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.labels[index], float(self.probabilities[index])) for index in best]


class Predictor:
    """A bundle's artifact, opened and ready.

    Attributes:
        manifest: the bundle's manifest.
        artifact: the artifact in use.
        session: the opened artifact; ``session.device`` says where it runs.
    """

    def __init__(self, bundle: Bundle, artifact: ArtifactRecord, session: Session) -> None:
        self._bundle = bundle
        self.manifest: Manifest = bundle.manifest
        self.artifact = artifact
        self.session = session

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
            BundleError: the engine cannot run it, or it has not one output per label.
        """
        pre = self.manifest.preprocessing
        wanted = (pre.height, pre.width, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
            raise ImageError(
                f"the model takes uint8 [N, {pre.height}, {pre.width}, 3] pixels, not {images.dtype} "
                f"{list(images.shape)}."
            )
        try:
            outputs = self.session.run(self.manifest.input.encode(images))
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
        """Run the bundle's golden samples and compare with the outputs that PyTorch gave.

        A service may call it once at start.

        Raises:
            BundleError: the bundle has no golden samples, or they are malformed.
        """
        return selftest(self._bundle, self.artifact, self.session)

    def predict(self, sources: Iterable[ImageSource] | ImageSource, batch_size: int = 32) -> list[Prediction]:
        """Classify images.

        Args:
            sources: paths, encoded bytes, PIL images or uint8 arrays ``[h, w]``, ``[h, w, 1|3|4]`` of any size; one
                alone is a list of one.
            batch_size: images per call of the engine.

        Raises:
            ImageError: an image cannot be decoded; the message names it.
        """
        results = []
        several: Iterable[Any] = [sources] if _is_one(sources) else sources  # type: ignore[assignment]  # _is_one told them apart
        for _, outcome in self.stream(several, batch_size):
            if isinstance(outcome, ImageError):
                raise outcome
            results.append(outcome)
        return results

    def stream(self, sources: Iterable[Any], batch_size: int = 32) -> Iterator[tuple[Any, Prediction | ImageError]]:
        """Classify any number of images with bounded memory, in order.

        Yields:
            Each source with its prediction, or with the error that says why it has none.
        """
        waiting = iter(sources)
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
                        yield source, self._prediction(outputs, row)
                        row += 1

    def _prepare(self, source: ImageSource) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return prepare(source, self.manifest.preprocessing)
        except ImageError as error:
            return error

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
    allow_code: bool = False,
) -> Predictor:
    """Open a bundle for prediction. Every file is checked against the manifest before an engine sees it.

    Args:
        path: the bundle's folder, or a run folder that has one.
        artifact: format to use, e.g. ``"onnx"``; the bundle's preferred one by default.
        device: ``"cpu"`` or ``"cuda"``. A device that cannot be used is an error, never a silent change.
        threads: CPU threads per call; all cores of this process by default.
        verify_key: PEM file of the public key that must have signed the bundle; checked before anything of the bundle
            is parsed.
        allow_code: open an artifact that can carry code (TorchScript, pt2, AOTInductor) whoever made the bundle.
            Without it, such an artifact is opened where this user exported the bundle on this machine, or with
            ``verify_key``; anywhere else the preferred artifact is one that is data.

    Raises:
        BundleError: no bundle there, or no such artifact.
        UntrustedCodeError: the artifact can carry code, and nobody vouches for the bundle.
        SignatureError: with ``verify_key``, the bundle is not signed by that key; without, its signature is stale.
        IntegrityError: a file is not the one that the manifest describes.
        DeviceError: the device cannot be used here.
        MissingDependencyError: the artifact's engine is not installed.
    """
    bundle = Bundle.open(path, verify_key, allow_code)
    record = choose_artifact(bundle, artifact)
    return Predictor(bundle, record, open_artifact(bundle, record, device, threads or available_cores()))


def _shapes(outputs: dict[str, npt.NDArray[np.float32]]) -> str:
    return " and ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())


def _is_one(sources: object) -> bool:
    return isinstance(sources, str | bytes | PathLike | np.ndarray) or hasattr(sources, "getexif")
