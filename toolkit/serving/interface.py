"""What the parts of the server know of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.bundle import ArtifactRecord, Manifest
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.runtime import Prediction
from toolkit.serving.refusals import Refusal

Outputs: TypeAlias = dict[str, npt.NDArray[np.float32]]
"""``logits`` and ``probabilities``, float32 ``[n, C]``."""
Phase: TypeAlias = Literal["queue", "decode", "compute"]


@dataclass(frozen=True)
class Served:
    """A bundle that is to be served.

    Attributes:
        path: a bundle, a run folder, or a folder of versions (``1/``, ``2/``, each a bundle) that is watched.
        name: the model's name in the protocol; the bundle's own by default.
    """

    path: Path
    name: str | None = None


@dataclass(frozen=True)
class Limits:
    """What the server takes at most.

    Attributes:
        body_bytes: of one request.
        images: of one request.
        pixels: of one image (``toolkit.preprocess.decode``).
        queue: images that wait or are computed, of all requests of one model; more are refused with 503.
        seconds: from the arrival of a request to its answer.
        drain_seconds: for requests that were accepted, once the server is told to end.
    """

    body_bytes: int = 64 * 2**20
    images: int = 256
    pixels: int = MAX_PIXELS
    queue: int = 512
    seconds: float = 60.0
    drain_seconds: float = 30.0


class Model(Protocol):
    """One version of a model that is ready: its golden samples have passed on this machine.

    Attributes:
        name: in the protocol.
        version: a whole number as text.
        path: the bundle, or a run folder that has one; another process may have changed it since.
        manifest: of the bundle as it was opened.
        artifact: the one that runs.
    """

    name: str
    version: str
    path: Path
    manifest: Manifest
    artifact: ArtifactRecord

    async def run(self, pixels: npt.NDArray[np.uint8]) -> Outputs:
        """Compute the outputs of prepared pixels, uint8 ``[n, H, W, 3]``, batched with those of other requests.

        Raises:
            Refusal: ``Overloaded``, ``NotReady``, ``TimedOut`` or ``ModelFailed``.
        """

    async def classify(self, files: Sequence[bytes | memoryview]) -> list[Prediction | Refusal]:
        """Decode and classify image files; one that cannot be read fails alone.

        Returns:
            In their order, what the model says of each, or ``UnreadableImage``, ``TooLarge`` or ``ModelFailed``.

        Raises:
            Refusal: as ``run``, of the request as a whole.
        """


@dataclass(frozen=True)
class ModelState:
    """A version of a model in the repository's index.

    Attributes:
        state: as the repository extension of the protocol names them.
        reason: why it is not ready, one sentence; empty where it is.
    """

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    reason: str = ""


class Models(Protocol):
    """All models of the server."""

    def get(self, name: str, version: str | None = None) -> Model:
        """Return a model that is ready, by default in its newest version that is.

        Raises:
            UnknownModel: there is none.
            NotReady: there is one, and it is not ready.
        """

    def index(self) -> Sequence[ModelState]:
        """Return every version of every model, ready or not."""

    @property
    def names(self) -> Sequence[str]:
        """The models, by name, in order."""

    @property
    def ready(self) -> bool:
        """Whether every model has a version that is ready, and the server takes requests."""


@dataclass(frozen=True)
class Answered:
    """A request that was answered.

    Attributes:
        model: its name as the request gave it.
        version: the one that answered; empty where none did.
        protocol: ``http`` or ``grpc``.
        images: how many it held.
        refusal: what it was refused with; None where it has a result.
        seconds: from its arrival to its answer.
    """

    model: str
    version: str
    protocol: Literal["http", "grpc"]
    images: int
    refusal: Refusal | None
    seconds: float


class Observer(Protocol):
    """Told of what happens; of metrics and logs. Must be quick, and never raises."""

    def request(self, answered: Answered) -> None:
        """A request was answered."""

    def phases(self, model: str, version: str, seconds: Mapping[Phase, float]) -> None:
        """The phases of a request have ended, each after so many seconds."""

    def batch(self, model: str, version: str, images: int, seconds: float) -> None:
        """The engine computed a batch."""

    def predicted(self, model: str, version: str, label: str, probability: float) -> None:
        """An image was classified."""

    def queued(self, model: str, version: str, images: int) -> None:
        """So many images wait or are computed now."""
