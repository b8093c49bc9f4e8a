"""The application of the server, with its page, around models that are a ``Predictor`` each."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import uvicorn
from starlette.types import ASGIApp

from toolkit.errors import ImageError
from toolkit.runtime import Prediction, Predictor, load
from toolkit.serving.app import Parts, build_app
from toolkit.serving.guard import Gate
from toolkit.serving.interface import Limits, Model, ModelState, Outputs
from toolkit.serving.keys import ApiKeys
from toolkit.serving.metrics import Metrics
from toolkit.serving.observers import Observers
from toolkit.serving.page import PageOptions
from toolkit.serving.refusals import NotReady, Refusal, UnknownModel, UnreadableImage
from toolkit.serving.statistics import Statistics


class PredictorModel:
    """A ``Model`` that computes one request after the other."""

    def __init__(self, path: Path, name: str = "colours", version: str = "1") -> None:
        self.predictor: Predictor = load(path, threads=1)
        self.name, self.version, self.path = name, version, path
        self.manifest, self.artifact = self.predictor.manifest, self.predictor.artifact

    async def run(self, pixels: np.ndarray) -> Outputs:
        return self.predictor.run(pixels)

    async def classify(self, files: Sequence[bytes | memoryview]) -> list[Prediction | Refusal]:
        outcomes = [outcome for _, outcome in self.predictor.stream(files)]
        return [UnreadableImage(str(each)) if isinstance(each, ImageError) else each for each in outcomes]


class SomeModels:
    """A ``Models`` that a test changes as it likes."""

    def __init__(self, *models: Model) -> None:
        self.models = {(model.name, model.version): model for model in models}
        self.others: list[ModelState] = []

    def get(self, name: str, version: str | None = None) -> Model:
        versions = [number for known, number in self.models if known == name]
        if any(state.name == name for state in self.others) and not versions:
            raise NotReady(f"no version of {name} is ready.")
        if not versions or (version or versions[0]) not in versions:
            raise UnknownModel(f"there is no model {name!r} here.")
        return self.models[name, version or max(versions, key=int)]

    def index(self) -> Sequence[ModelState]:
        return [ModelState(name, version, "READY") for name, version in self.models] + self.others

    @property
    def names(self) -> Sequence[str]:
        return sorted({state.name for state in self.index()})

    @property
    def ready(self) -> bool:
        return bool(self.models) and not self.others


def application(models: SomeModels, options: PageOptions, key: str | None = None) -> ASGIApp:
    """Return the server's own application around these models; with a key if one is given."""
    limits, metrics, statistics = Limits(), Metrics(), Statistics()
    metrics.models = models
    observer, keys = Observers(metrics, statistics), None if key is None else ApiKeys([key])
    return build_app(Parts(models, limits, Gate(limits), observer, metrics, statistics, options, keys))


@contextlib.contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Serve an application in a thread, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
