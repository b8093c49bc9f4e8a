from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.unit.serving.conftest import Asked, Noted, asked, finish, form
from toolkit.serving import predict
from toolkit.serving.hosted import Hosted
from toolkit.serving.interface import Limits, ModelState
from toolkit.serving.refusals import Overloaded, UnknownModel
from toolkit.serving.routing import Router

Png = Callable[[str], bytes]
JPEG = {"content-type": "image/jpeg"}


class OneModel:
    """All models there are: one, or one under several names."""

    ready = True

    def __init__(self, model: Hosted, *names: str) -> None:
        self._model = model
        self.names = sorted(names) or ["colours"]

    def get(self, name: str, version: str | None = None) -> Hosted:
        if name not in self.names or version not in (None, "1"):
            raise UnknownModel(f"there is no {name!r} {version!r}.")
        return self._model

    def index(self) -> Sequence[ModelState]:
        return [ModelState(name, "1", "READY") for name in self.names]


Ask = Callable[..., Asked]


@pytest.fixture
def model(host: Callable[..., Hosted]) -> Hosted:
    return host()


@pytest.fixture
def ask(model: Hosted, noted: Noted) -> Ask:
    def call(request: Asked, *names: str) -> Asked:
        app = Router(predict.routes(OneModel(model, *names), Limits(images=3), noted))
        return finish(request.to(app))

    return call


def test_one_image_in_its_label_and_probabilities_out(ask: Ask, png: Png, noted: Noted) -> None:
    done = ask(asked("POST", "/predict", png("green"), headers=JPEG))
    assert done.status == 200
    assert done.headers["content-type"] == "application/json"
    (said,) = done.json["predictions"]
    assert {**done.json, "predictions": []} == {"model": "colours", "version": "1", "predictions": []}
    assert said["label"] == "green"
    assert said["top"][0]["label"] == "green"
    assert sorted(entry["label"] for entry in said["top"]) == ["blue", "green", "red"]
    assert sum(entry["probability"] for entry in said["top"]) == pytest.approx(1, abs=1e-6)
    assert said["probability"] == said["top"][0]["probability"]
    assert "file" not in said
    (answered,) = noted.requests
    assert (answered.model, answered.version, answered.protocol, answered.images) == ("colours", "1", "http", 1)
    assert answered.refusal is None
    assert 0 < answered.seconds < 60


def test_several_in_a_form_and_one_bad_image_fails_alone(ask: Ask, png: Png, noted: Noted) -> None:
    content, headers = form(("a.png", png("red")), ("b.png", b"no image"), ("c.png", png("blue")))
    done = ask(asked("POST", "/predict?top=1", content, headers=headers))
    assert done.status == 200
    red, bad, blue = done.json["predictions"]
    assert (red["file"], red["label"], len(red["top"])) == ("a.png", "red", 1)
    assert (blue["file"], blue["label"]) == ("c.png", "blue")
    assert (bad["file"], bad["status"]) == ("b.png", 422)
    assert "cannot be read as an image" in bad["error"]
    assert set(bad) == {"file", "status", "error"}
    assert (noted.requests[0].images, noted.requests[0].refusal) == (3, None)


def test_where_no_image_can_be_read_the_request_fails(ask: Ask, noted: Noted) -> None:
    done = ask(asked("POST", "/predict", b"no image", headers=JPEG))
    assert done.status == 422
    assert done.json["error"] == done.json["predictions"][0]["error"]
    assert type(noted.requests[0].refusal).__name__ == "UnreadableImage"


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("top=0", 400, "top is '0': give a whole number from 1 to 100000"),
        ("top=x", 400, "top is 'x'"),
        ("top=", 400, "the parameter top is empty or stands there twice"),
        ("top=1&top=2", 400, "the parameter top is empty or stands there twice"),
        ("top=100001", 400, "top is '100001'"),
        ("top=" + "9" * 5000, 400, "top is '999"),
        ("top=%D9%A3", 400, "top is"),
        ("topp=1", 400, "there is no parameter 'topp': give model, version, top."),
        ("model=nope", 404, "there is no 'nope' None"),
        ("version=7", 404, "there is no 'colours' '7'"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_the_body_is_read(ask: Ask, query: str, status: int, said: str) -> None:
    done = ask(asked("POST", f"/predict?{query}", b"abc", headers=JPEG, stay=True))
    assert done.status == status
    assert said in done.json["error"]
    assert len(done.body) < 1000


def test_of_several_models_one_is_named(ask: Ask, png: Png) -> None:
    done = ask(asked("POST", "/predict", png("red"), headers=JPEG), "b", "a")
    assert done.status == 400
    assert done.json["error"] == "there are several models here: say which with ?model=NAME, one of a, b."
    assert ask(asked("POST", "/predict?model=a&version=1", png("red"), headers=JPEG), "b", "a").status == 200


def test_a_full_queue_says_when_to_come_back(
    ask: Ask, png: Png, model: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(files: Any) -> None:
        raise Overloaded("later.", 7.2)

    monkeypatch.setattr(model, "classify", full)
    done = ask(asked("POST", "/predict", png("red"), headers=JPEG))
    assert (done.status, done.headers["retry-after"], done.json) == (503, "8", {"error": "later."})


def test_too_many_files_are_too_large(ask: Ask, png: Png) -> None:
    content, headers = form(*[("a", png("red"))] * 4)
    assert ask(asked("POST", "/predict", content, headers=headers)).status == 413


def test_the_description_is_served(ask: Ask) -> None:
    done = ask(asked("GET", "/openapi.json"))
    assert done.status == 200
    assert json.loads(done.body)["openapi"] == "3.1.0"
