"""The page of the server with as little as possible around it: models on a ``Predictor``, and one way to ask them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from toolkit.errors import ImageError
from toolkit.runtime import Prediction, Predictor, load
from toolkit.serving.interface import Model, ModelState, Outputs
from toolkit.serving.page import PageOptions, public_paths, routes
from toolkit.serving.refusals import NotReady, Refusal, UnknownModel, UnreadableImage


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
    def ready(self) -> bool:
        return bool(self.models) and not self.others


def application(models: SomeModels, options: PageOptions, key: str | None = None) -> Starlette:
    """Return the page and, below it, inference as the page asks for it; with a key if one is given."""

    async def infer(request: Request) -> Response:
        body = await request.body()
        length = int(request.headers["inference-header-content-length"])
        (tensor,) = json.loads(body[:length])["inputs"]
        assert (tensor["name"], tensor["shape"], tensor["datatype"]) == ("images", [1], "BYTES")
        assert tensor["parameters"]["binary_data_size"] == len(body) - length
        assert int.from_bytes(body[length : length + 4], "little") == len(body) - length - 4
        try:
            model = models.get(request.path_params["name"])
            (outcome,) = await model.classify([body[length + 4 :]])
        except Refusal as refusal:
            outcome = refusal
        if isinstance(outcome, Refusal):
            return JSONResponse({"error": str(outcome)}, outcome.http)
        outputs = [
            {"name": name, "datatype": "FP32", "shape": [1, len(values)], "data": values.tolist()}
            for name, values in (("logits", outcome.logits), ("probabilities", outcome.probabilities))
        ]
        return JSONResponse({"model_name": model.name, "model_version": model.version, "outputs": outputs})

    app = Starlette(routes=[*routes(models, options), Route("/v2/models/{name}/infer", infer, methods=["POST"])])
    if key is not None:
        inner, public = app, public_paths()

        async def guarded(scope, receive, send):  # type: ignore[no-untyped-def]
            if scope["type"] == "http" and scope["path"] not in public:
                given = Request(scope).headers.get("authorization")
                if given != f"Bearer {key}":
                    sentence = "this server wants an API key." if given is None else "the API key is not known here."
                    await JSONResponse({"error": sentence}, 401)(scope, receive, send)
                    return
            await inner(scope, receive, send)

        return guarded  # type: ignore[return-value]
    return app


@contextlib.contextmanager
def listening(app: Starlette) -> Iterator[str]:
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
