"""How a request is answered, whichever of HTTP and gRPC it came over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from toolkit.runtime import Prediction
from toolkit.serving.interface import Answered, Limits, Model, Models, Observer, Outputs
from toolkit.serving.lookup import when_arrived
from toolkit.serving.refusals import FAULT, ModelFailed, Refusal, TimedOut
from toolkit.serving.v2.contract import Files, answer_tensors, checked_input, requested_outputs
from toolkit.serving.v2.messages import InferRequest, InferResponse

_logger = logging.getLogger(__name__)


class KeepsStatistics(Protocol):
    """What the statistics extension is answered from."""

    def of(self, name: str, version: str) -> Mapping[str, Any]:
        """Return the statistics of a version, in the form of the extension."""


@dataclass(frozen=True)
class Service:
    """The models, and under which terms they are served.

    Attributes:
        statistics: None where nobody keeps any.
    """

    models: Models
    limits: Limits
    observer: Observer
    statistics: KeepsStatistics | None = None


@dataclass(frozen=True)
class Asked:
    """Whom a request for inference asks, and over what.

    Attributes:
        version: None for the newest that is ready.
    """

    model: str
    version: str | None
    protocol: Literal["http", "grpc"]


async def answer(service: Service, asked: Asked, arrive: Callable[[], Awaitable[InferRequest]]) -> InferResponse:
    """Answer a request for inference, and tell the observer of it.

    Cancelled, it is neither answered nor told of: nobody waits for it any more.

    Args:
        service: what answers.
        asked: whom it asks.
        arrive: returns the request once all of it is here; not called where there is nobody who could answer it.

    Raises:
        Refusal: it has no result.
    """
    answering = _Answering(service, asked, arrive)
    started = time.perf_counter()
    refusal: Refusal | None = None
    try:
        response = await answering.run()
    except Refusal as error:
        refusal = error
        raise
    except Exception as error:
        _logger.exception("a request to the model failed by an error of the server's own")
        refusal = ModelFailed(FAULT)
        raise refusal from error
    else:
        return response
    finally:
        if refusal is not None or answering.done:
            seconds = time.perf_counter() - started
            service.observer.request(
                Answered(asked.model, answering.version, asked.protocol, answering.images, refusal, seconds)
            )


class _Answering:
    """A request for inference, and how far it has come.

    Attributes:
        version: which answers; empty until that is known.
        images: how many it holds; 0 until that is known.
        done: whether it has a result.
    """

    def __init__(self, service: Service, asked: Asked, arrive: Callable[[], Awaitable[InferRequest]]) -> None:
        self._service = service
        self._asked = asked
        self._arrive = arrive
        self.version = ""
        self.images = 0
        self.done = False

    async def run(self) -> InferResponse:
        """Return the answer.

        Raises:
            Refusal: there is none.
        """
        asked, models = self._asked, self._service.models
        model = models.get(asked.model, asked.version)
        self.version = model.version
        request = await self._arrive()
        model = when_arrived(models, model, asked.version)
        seconds = request.timeout_seconds
        response = await (
            self._response(model, request) if seconds is None else self._response_within(seconds, model, request)
        )
        self.done = True
        return response

    async def _response_within(self, seconds: float, model: Model, request: InferRequest) -> InferResponse:
        try:
            async with asyncio.timeout(seconds) as clock:
                return await self._response(model, request)
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise TimedOut(f"there was no answer within the {seconds:g} s of the request.") from error

    async def _response(self, model: Model, request: InferRequest) -> InferResponse:
        self.version = model.version
        requested = requested_outputs(request)
        images = checked_input(request, model, self._service.limits)
        self.images = len(images)
        outputs = await (model.run(images) if isinstance(images, np.ndarray) else _classified(model, images))
        tensors = answer_tensors(requested, outputs, model.manifest.labels)
        return InferResponse(model.name, model.version, request.id, tensors)


async def _classified(model: Model, files: Files) -> Outputs:
    """Return the outputs of image files.

    Raises:
        Refusal: that of the first one that has no prediction: the protocol answers a request as a whole or not at all.
    """
    predictions = await model.classify(files)
    kept: list[Prediction] = []
    for position, prediction in enumerate(predictions, 1):
        if isinstance(prediction, Refusal):
            if len(files) == 1:
                raise prediction
            message = f"image {position} of {len(files)}: {prediction}"
            raise type(prediction)(message, prediction.retry_after) from prediction
        kept.append(prediction)
    return {
        "logits": np.stack([prediction.logits for prediction in kept]),
        "probabilities": np.stack([prediction.probabilities for prediction in kept]),
    }
