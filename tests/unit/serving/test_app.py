from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving.conftest import ONE_BY_ONE, Asked, Noted, asked, finish
from toolkit.serving.app import Parts, build_app
from toolkit.serving.guard import Gate
from toolkit.serving.interface import Limits
from toolkit.serving.keys import ApiKeys
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import ModelSet
from toolkit.serving.page import PageOptions
from toolkit.serving.statistics import Statistics

KEY = "k" * 20


def parts(noted: Noted, keys: ApiKeys | None = None) -> Parts:
    limits = Limits()
    models = ModelSet(ONE_BY_ONE, limits, noted)
    return Parts(models, limits, Gate(limits), noted, Metrics(), Statistics(), PageOptions(), keys)


def ask(made: Parts, request: Asked) -> Asked:
    return finish(request.to(build_app(made)))


def test_what_there_is_not_is_json_too(noted: Noted) -> None:
    done = ask(parts(noted), asked("GET", "/nope"))
    assert (done.status, done.json) == (404, {"error": "there is nothing at this address."})
    done = ask(parts(noted), asked("GET", "/predict"))
    assert (done.status, done.json, done.headers["allow"]) == (405, {"error": "GET is not done here."}, "POST")


def test_without_a_model_nothing_is_ready(noted: Noted) -> None:
    made = parts(noted)
    made.models.expect("colours")  # type: ignore[attr-defined]
    assert ask(made, asked("GET", "/v2/health/live")).status == 200
    assert ask(made, asked("GET", "/v2/health/ready")).status == 503


def test_with_one_it_is_until_the_server_ends(
    noted: Noted, colour_bundle_once: Path, png: Callable[[str], bytes]
) -> None:
    made = parts(noted)

    async def work() -> None:
        app = build_app(made)
        assert isinstance(made.models, ModelSet)
        await made.models.add("colours", "1", colour_bundle_once)
        assert (await asked("GET", "/v2/health/ready").to(app)).status == 200
        done = await asked("POST", "/predict", png("red"), headers={"content-type": "image/png"}).to(app)
        assert done.json["predictions"][0]["label"] == "red"
        made.models.taking = False
        assert (await asked("GET", "/v2/health/ready").to(app)).status == 503
        await made.models.close()

    finish(work())


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/models/colours", "/metrics", "/page/models", "/openapi.json"])
def test_every_part_of_the_server_is_there(noted: Noted, colour_bundle_once: Path, path: str) -> None:
    made = parts(noted)

    async def work() -> None:
        assert isinstance(made.models, ModelSet)
        await made.models.add("colours", "1", colour_bundle_once)
        done = await asked("GET", path).to(build_app(made))
        assert done.status == 200
        assert done.headers["x-request-id"]
        await made.models.close()

    finish(work())


def test_without_a_page_there_is_none(noted: Noted) -> None:
    assert ask(replace(parts(noted), page=None), asked("GET", "/")).status == 404


def test_keys_are_needed_everywhere_but_for_health(noted: Noted) -> None:
    made = parts(noted, ApiKeys([KEY]))
    assert ask(made, asked("GET", "/openapi.json")).status == 401
    assert ask(made, asked("GET", "/nope")).status == 401
    assert ask(made, asked("GET", "/metrics")).status == 401
    assert ask(made, asked("GET", "/page/models")).status == 401
    assert ask(made, asked("GET", "/page/model.onnx")).status == 401
    assert ask(made, asked("GET", "/v2/health/live")).status == 200
    assert ask(made, asked("GET", "/")).status == 200
    done = ask(made, asked("GET", "/openapi.json", headers={"x-api-key": KEY}))
    assert done.status == 200
    assert "bearer" in done.json["components"]["securitySchemes"]


def test_a_fault_of_ours_is_a_sentence_there_and_a_traceback_here(
    noted: Noted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = parts(noted)

    def broken(*_: object) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(made.models, "get", broken)
    request = asked("POST", "/predict", b"abc", headers={"content-type": "image/png"})
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="secret"):  # which uvicorn logs
        ask(made, request)
    assert (request.status, request.json) == (500, {"error": "the server has a fault: its log says more."})
