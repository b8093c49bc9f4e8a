"""``POST /predict``: image files in, labels and probabilities out; for whoever needs no protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from toolkit.printable import printable
from toolkit.runtime import Prediction
from toolkit.serving.answers import JsonResponse, refused
from toolkit.serving.interface import Answered, Limits, Model, Models, Observer
from toolkit.serving.lookup import when_arrived
from toolkit.serving.openapi import MOST_TOP, TOP, document
from toolkit.serving.refusals import BadRequest, Refusal
from toolkit.serving.routing import Route
from toolkit.serving.uploads import Upload, read_uploads

_PARAMETERS = ("model", "version", "top")
_SHOWN = 100


def routes(models: Models, limits: Limits, observer: Observer, *, needs_key: bool = False) -> list[Route]:
    """Return ``/predict`` and the description of it.

    Args:
        models: that are served.
        limits: of a request.
        observer: told of answers.
        needs_key: whether the description says that a key is needed.
    """
    described = JsonResponse(document(limits, needs_key=needs_key)).body

    async def openapi(_: Request) -> Response:
        return Response(described, media_type="application/json")

    async def predict(request: Request) -> Response:
        return await _Answering(models, limits, observer).answer(request)

    return [Route("POST", "/predict", predict), Route("GET", "/openapi.json", openapi)]


@dataclass(frozen=True)
class _Query:
    """What the address of a request says.

    Attributes:
        model: the name of a model; None for the only one.
        version: of the model; None for the newest.
        top: how many classes are listed for each image.
    """

    model: str | None
    version: str | None
    top: int

    @classmethod
    def of(cls, request: Request) -> _Query:
        """Read it.

        Raises:
            BadRequest: it has a parameter that there is not, or one twice, or one that says nothing.
        """
        query: bytes = request.scope["query_string"]
        given = parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else []
        names = [name for name, _ in given]
        for name, value in given:
            if name not in _PARAMETERS:
                raise BadRequest(f"there is no parameter {_shown(name)}: give {', '.join(_PARAMETERS)}.")
            if not value or names.count(name) > 1:
                raise BadRequest(f"the parameter {name} is empty or stands there twice: give it once, or leave it out.")
        values = dict(given)
        top = values.get("top", str(TOP))
        if not (top.isascii() and top.isdecimal() and 1 <= int(top[:9]) <= MOST_TOP and len(top) < 9):
            raise BadRequest(f"top is {_shown(top)}: give a whole number from 1 to {MOST_TOP}.")
        return cls(values.get("model"), values.get("version"), int(top))


class _Answering:
    """A request for ``/predict`` on its way to an answer."""

    def __init__(self, models: Models, limits: Limits, observer: Observer) -> None:
        self._models = models
        self._limits = limits
        self._observer = observer
        self._begun = time.perf_counter()
        self._name = ""
        self._version = ""
        self._images = 0

    async def answer(self, request: Request) -> Response:
        """Answer it, and tell of that."""
        try:
            response, refusal = await self._answered(request)
        except Refusal as error:
            response, refusal = refused(error), error
        seconds = time.perf_counter() - self._begun
        self._observer.request(Answered(self._name, self._version, "http", self._images, refusal, seconds))
        return response

    async def _answered(self, request: Request) -> tuple[Response, Refusal | None]:
        query = _Query.of(request)
        model = self._model(query)  # what there is not is said before anything is read
        uploads = await read_uploads(request, self._limits)
        model = when_arrived(self._models, model, query.version)
        self._images, self._version = len(uploads), model.version
        outcomes = await model.classify([upload.content for upload in uploads])
        answer = {
            "model": model.name,
            "version": model.version,
            "predictions": [
                _said(upload, outcome, query.top) for upload, outcome in zip(uploads, outcomes, strict=True)
            ],
        }
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        if len(refusals) == len(outcomes):
            return refused(refusals[0], answer), refusals[0]
        return JsonResponse(answer), None

    def _model(self, query: _Query) -> Model:
        self._name = query.model or self._only_name()
        return self._models.get(self._name, query.version)

    def _only_name(self) -> str:
        names = self._models.names
        if len(names) > 1:
            raise BadRequest(f"there are several models here: say which with ?model=NAME, one of {', '.join(names)}.")
        return names[0] if names else ""


def _said(upload: Upload, outcome: Prediction | Refusal, top: int) -> dict[str, Any]:
    file: dict[str, Any] = {} if upload.name is None else {"file": upload.name}
    if isinstance(outcome, Refusal):
        return {**file, "error": str(outcome), "status": outcome.http}
    return {
        **file,
        "label": outcome.label,
        "probability": outcome.probability,
        "top": _listed(outcome.top(top)),
    }


def _listed(best: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "probability": probability} for label, probability in best]


def _shown(text: str) -> str:
    return repr(printable(text[:_SHOWN]))
