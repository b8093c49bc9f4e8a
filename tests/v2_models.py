"""Models for tests of the protocol: one that computes in numpy, one on a ``Predictor``, and an observer that remembers.

Both know the three colours of ``conftest.colour_bundle``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.conftest import LABELS, colour_outputs
from toolkit.bundle import ArtifactRecord, Manifest
from toolkit.errors import ImageError
from toolkit.preprocess import prepare
from toolkit.runtime import Prediction, Predictor
from toolkit.serving.interface import Answered, Model, ModelState, Outputs
from toolkit.serving.refusals import NotReady, Refusal, UnknownModel, UnreadableImage


def predictions_of(outputs: Outputs, labels: Sequence[str]) -> list[Prediction]:
    """Return what a model says of each image."""
    return [
        Prediction(labels[index := int(row.argmax())], float(row[index]), index, row, logits, tuple(labels))
        for row, logits in zip(outputs["probabilities"], outputs["logits"], strict=True)
    ]


class ColourModel:
    """Computes in numpy, after something that a test may put in between."""

    def __init__(self, manifest: Manifest, name: str = "colours", version: str = "1") -> None:
        self.name = name
        self.version = version
        self.manifest = manifest
        self.artifact: ArtifactRecord = manifest.artifacts[0]
        self.seen: list[npt.NDArray[np.uint8]] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        if self.before is not None:
            await self.before()
        self.seen.append(pixels)
        return colour_outputs(pixels)

    async def classify(self, files: Sequence[bytes | memoryview]) -> list[Prediction | Refusal]:
        if self.before is not None:
            await self.before()
        outcomes: list[Prediction | Refusal] = []
        for file in files:
            try:
                pixels = prepare(file, self.manifest.preprocessing)
            except ImageError as error:
                outcomes.append(UnreadableImage(str(error)))
            else:
                outcomes += predictions_of(colour_outputs(pixels[None]), LABELS)
        return outcomes


class PredictorModel:
    """Computes on a ``Predictor``, in a thread."""

    def __init__(self, predictor: Predictor, name: str, version: str = "1") -> None:
        self.name = name
        self.version = version
        self.manifest = predictor.manifest
        self.artifact = predictor.artifact
        self._predictor = predictor

    async def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        return await asyncio.to_thread(self._predictor.run, pixels)

    async def classify(self, files: Sequence[bytes | memoryview]) -> list[Prediction | Refusal]:
        return await asyncio.to_thread(self._classified, files)

    def _classified(self, files: Sequence[bytes | memoryview]) -> list[Prediction | Refusal]:
        return [
            UnreadableImage(str(outcome)) if isinstance(outcome, ImageError) else outcome
            for _, outcome in self._predictor.stream(files)
        ]


class FixedModels:
    """Models that stay, and versions that are not ready with the reason why."""

    def __init__(self, *models: Model, not_ready: Sequence[ModelState] = ()) -> None:
        self._models = models
        self._not_ready = tuple(not_ready)

    def get(self, name: str, version: str | None = None) -> Model:
        found = [model for model in self._models if model.name == name and version in (None, model.version)]
        if found:
            return max(found, key=lambda model: int(model.version))
        if state := next((state for state in self._not_ready if state.name == name), None):
            raise NotReady(f"{name} is not ready: {state.reason}", retry_after=2.5)
        raise UnknownModel(f"there is no model {name!r} with the version {version!r}.")

    def index(self) -> Sequence[ModelState]:
        return (*(ModelState(model.name, model.version, "READY") for model in self._models), *self._not_ready)

    @property
    def names(self) -> Sequence[str]:
        return sorted({state.name for state in self.index()})

    @property
    def ready(self) -> bool:
        return not self._not_ready


@dataclass
class Remembering:
    """An observer that remembers the requests that were answered, and keeps statistics of their number."""

    answered: list[Answered] = field(default_factory=list)

    def request(self, answered: Answered) -> None:
        self.answered.append(answered)

    def phases(self, *told: Any) -> None:
        pass

    def batch(self, *told: Any) -> None:
        pass

    def predicted(self, *told: Any) -> None:
        pass

    def queued(self, *told: Any) -> None:
        pass

    def of(self, name: str, version: str) -> dict[str, Any]:
        """Return statistics in the form of the protocol's extension."""
        images = sum(each.images for each in self.answered if (each.model, each.version) == (name, version))
        nothing = {"count": 0, "ns": 0}
        return {
            "last_inference": 7,
            "inference_count": images,
            "execution_count": images,
            "inference_stats": {"success": {"count": images, "ns": 5}, "fail": nothing},
            "batch_stats": [{"batch_size": 1, "compute_infer": {"count": images, "ns": 4}}],
        }
