"""How a request is answered, and what the observer is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import numpy as np
import pytest

from tests.conftest import colour_outputs
from tests.v2_models import ColourModel, FixedModels, Remembering
from toolkit.bundle import Manifest
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import (
    FAULT,
    BadRequest,
    ModelFailed,
    NotReady,
    Overloaded,
    Refusal,
    TimedOut,
    UnknownModel,
    UnreadableImage,
)
from toolkit.serving.v2.messages import Binary, Elements, InferRequest, InferResponse, InputTensor
from toolkit.serving.v2.service import Asked, Service, answer

GRPC: Literal["grpc"] = "grpc"


def pixel_request(pixels: np.ndarray, timeout: float | None = None) -> InferRequest:
    content = Binary(memoryview(pixels.tobytes()))
    return InferRequest((InputTensor("images", "UINT8", pixels.shape, content),), id="7", timeout_seconds=timeout)


def file_request(files: list[bytes]) -> InferRequest:
    return InferRequest((InputTensor("images", "BYTES", (len(files),), Elements(files)),))


class Answering:
    """Asks a service."""

    def __init__(self, models: FixedModels, observer: Remembering) -> None:
        self.service = Service(models, Limits(), observer)

    def __call__(
        self, request: InferRequest | Exception, model: str = "colours", version: str | None = None
    ) -> InferResponse:
        async def arrive() -> InferRequest:
            if isinstance(request, Exception):
                raise request
            return request

        return asyncio.run(answer(self.service, Asked(model, version, GRPC), arrive))


@pytest.fixture
def ask(models: FixedModels, observer: Remembering) -> Answering:
    return Answering(models, observer)


def test_pixels_are_answered_by_the_newest_version(ask: Answering, pixels: np.ndarray) -> None:
    response = ask(pixel_request(pixels))
    assert (response.model, response.version, response.id) == ("colours", "1", "7")
    logits, probabilities, label = response.outputs
    assert np.array_equal(logits.content, colour_outputs(pixels)["logits"])
    assert np.array_equal(probabilities.content, colour_outputs(pixels)["probabilities"])
    assert list(label.content) == [b"blue", b"green", b"red"]


def test_another_version_is_asked_by_its_name(ask: Answering, pixels: np.ndarray) -> None:
    assert ask(pixel_request(pixels), version="0").version == "0"


def test_image_files_are_answered_as_their_pixels_are(ask: Answering, pixels: np.ndarray, files: list[bytes]) -> None:
    by_pixels, by_files = ask(pixel_request(pixels)), ask(file_request(files))
    for one, other in zip(by_pixels.outputs, by_files.outputs, strict=True):
        assert (one.name, one.shape) == (other.name, other.shape)
        assert np.array_equal(one.content, other.content)


def test_the_observer_is_told_of_an_answer(ask: Answering, observer: Remembering, pixels: np.ndarray) -> None:
    ask(pixel_request(pixels))
    (told,) = observer.answered
    assert (told.model, told.version, told.protocol, told.images, told.refusal) == ("colours", "1", "grpc", 3, None)
    assert 0 < told.seconds < 60


def test_a_request_with_an_unreadable_image_is_refused_as_a_whole(
    ask: Answering, observer: Remembering, files: list[bytes]
) -> None:
    with pytest.raises(UnreadableImage, match=r"^image 2 of 3: "):
        ask(file_request([files[0], b"none", files[1]]))
    (told,) = observer.answered
    assert isinstance(told.refusal, UnreadableImage)
    assert (told.version, told.images) == ("1", 3)


def test_an_unreadable_image_alone_is_not_counted(ask: Answering) -> None:
    with pytest.raises(UnreadableImage, match=r"^(?!image 1 of)"):
        ask(file_request([b"none"]))


@pytest.mark.parametrize(
    ("name", "version", "refusal"),
    [("none", None, UnknownModel), ("colours", "9", UnknownModel), ("broken", None, NotReady)],
)
def test_a_body_for_nobody_is_not_waited_for(
    models: FixedModels, observer: Remembering, name: str, version: str | None, refusal: type[Refusal]
) -> None:
    async def arrive() -> InferRequest:
        raise AssertionError("nobody asks for the body")

    with pytest.raises(refusal):
        asyncio.run(answer(Service(models, Limits(), observer), Asked(name, version, GRPC), arrive))
    (told,) = observer.answered
    assert isinstance(told.refusal, refusal)
    assert (told.model, told.version, told.images) == (name, "", 0)


def test_a_version_that_takes_over_while_the_request_arrives_answers_it(
    manifest: Manifest, observer: Remembering, pixels: np.ndarray
) -> None:
    old, new = ColourModel(manifest, version="1"), ColourModel(manifest, version="2")

    async def closed() -> None:
        raise NotReady("version 1 has just been replaced.")

    old.before = closed
    versions = [old]

    class Changing(FixedModels):
        def get(self, name: str, version: str | None = None) -> ColourModel:
            return versions[-1]

    async def arrive() -> InferRequest:
        versions.append(new)
        return pixel_request(pixels)

    service = Service(Changing(), Limits(), observer)
    assert asyncio.run(answer(service, Asked("colours", None, GRPC), arrive)).version == "2"
    assert observer.answered[0].version == "2"


def test_a_request_that_does_not_arrive_is_told_of(ask: Answering, observer: Remembering) -> None:
    with pytest.raises(BadRequest, match="cut off"):
        ask(BadRequest("cut off"))
    (told,) = observer.answered
    assert isinstance(told.refusal, BadRequest)
    assert told.version == "1"


def test_a_refusal_of_the_model_passes(
    ask: Answering, model: ColourModel, observer: Remembering, pixels: np.ndarray
) -> None:
    async def full() -> None:
        raise Overloaded("the queue is full", retry_after=3)

    model.before = full
    with pytest.raises(Overloaded, match="the queue is full") as caught:
        ask(pixel_request(pixels))
    assert caught.value.retry_after == 3
    assert observer.answered[0].refusal is caught.value


def test_a_bug_is_logged_and_not_told(
    ask: Answering,
    model: ColourModel,
    observer: Remembering,
    pixels: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def bug() -> None:
        raise KeyError("/secret/path")

    model.before = bug
    with caplog.at_level(logging.ERROR), pytest.raises(ModelFailed) as caught:
        ask(pixel_request(pixels))
    assert str(caught.value) == FAULT
    assert "/secret/path" in caplog.text
    assert isinstance(observer.answered[0].refusal, ModelFailed)


def test_nobody_waits_longer_than_the_request_says(
    ask: Answering, model: ColourModel, observer: Remembering, pixels: np.ndarray
) -> None:
    async def slow() -> None:
        await asyncio.sleep(20)

    model.before = slow
    with pytest.raises(TimedOut, match=r"no answer within the 0\.01 s of the request"):
        ask(pixel_request(pixels, timeout=0.01))
    assert isinstance(observer.answered[0].refusal, TimedOut)


def test_a_timeout_of_somebody_else_is_a_bug(ask: Answering, model: ColourModel, pixels: np.ndarray) -> None:
    async def wrong() -> None:
        raise TimeoutError("of a socket, say")

    model.before = wrong
    with pytest.raises(ModelFailed):
        ask(pixel_request(pixels, timeout=10))


def test_a_request_that_is_cancelled_is_not_told_of(
    models: FixedModels, model: ColourModel, observer: Remembering, pixels: np.ndarray
) -> None:
    async def run() -> None:
        began = asyncio.Event()

        async def wait() -> None:
            began.set()
            await asyncio.sleep(20)

        async def arrive() -> InferRequest:
            return pixel_request(pixels)

        model.before = wait
        task = asyncio.create_task(answer(Service(models, Limits(), observer), Asked("colours", None, GRPC), arrive))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert observer.answered == []
