from __future__ import annotations

import io
import json
import logging
import threading
import time
from typing import Any

import pytest

from toolkit.serving import logs
from toolkit.serving.interface import Answered
from toolkit.serving.logs import RequestLog, logging_to, request_id
from toolkit.serving.refusals import ModelFailed, UnreadableImage

LOGGER = logging.getLogger("toolkit.serving.something")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        LOGGER.info("%s is ready", "cats", extra={"fields": {"version": "2"}})
    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "toolkit.serving.something",
        "message": "cats is ready",
        "version": "2",
    }


def test_a_request_is_a_line_with_its_id_and_nothing_of_the_image() -> None:
    stream = io.StringIO()
    log = RequestLog()
    with logging_to(stream):
        with request_id("abc-123"):
            log.request(Answered("cats", "1", "http", 2, None, 0.0123456789))
            log.predicted("cats", "1", "somebody's diagnosis", 0.9)
        log.request(Answered("cats", "1", "grpc", 1, UnreadableImage("it is no image"), 0.5))
        log.request(Answered("cats", "1", "grpc", 1, ModelFailed("the engine raised"), 0.5))
    first, second, third = lines(stream)
    del first["time"]
    assert first == {
        "level": "info",
        "logger": "toolkit.serving.requests",
        "message": "request",
        "request_id": "abc-123",
        "model": "cats",
        "version": "1",
        "protocol": "http",
        "images": 2,
        "outcome": "ok",
        "seconds": 0.012346,
    }
    assert (second["level"], second["outcome"], second["reason"]) == ("info", "unreadable_image", "it is no image")
    assert "request_id" not in second
    assert (third["level"], third["outcome"]) == ("warning", "model_failed")
    assert "diagnosis" not in stream.getvalue()


def test_what_a_stranger_writes_stays_on_its_line_and_short() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        RequestLog().request(Answered("x\n{}\x1b[31m" * 200, "", "http", 0, UnreadableImage("y\n" * 9999), 0.1))
    (line,) = lines(stream)
    assert len(line["model"]) == len(line["reason"]) == logs.LONGEST_TEXT
    assert "\x1b" not in line["model"]
    assert "\n" not in line["model"] + line["reason"]


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_traceback_is_in_the_log(style: Any) -> None:
    stream = io.StringIO()
    with logging_to(stream, style):
        try:
            raise ValueError("broken")  # noqa: TRY301 - what is logged
        except ValueError:
            LOGGER.exception("that failed")
    said = lines(stream)[0]["traceback"] if style == "json" else stream.getvalue()
    assert "ValueError: broken" in said
    assert "test_logs.py" in said


def test_text_for_people() -> None:
    stream = io.StringIO()
    with logging_to(stream, "text"), request_id("abc"):
        RequestLog().request(Answered("cats", "1", "http", 1, None, 0.5))
        LOGGER.warning("a\nb")
    first, second = stream.getvalue().splitlines()
    assert first.partition("INFO")[2].strip() == (
        "request model=cats version=1 protocol=http images=1 outcome=ok seconds=0.5 request_id=abc"
    )
    assert "a\\nb" in second


def test_what_the_server_around_it_says_is_there_and_its_access_log_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "level", logging.NOTSET)
    logging.getLogger("uvicorn.error").manager._clear_cache()  # type: ignore[attr-defined]
    stream = io.StringIO()
    with logging_to(stream):
        logging.getLogger("uvicorn.error").info("started")
        logging.getLogger("uvicorn.access").info("GET /v2?key=secret")
    assert [line["message"] for line in lines(stream)] == ["started"]


def test_afterwards_logging_is_as_it_was() -> None:
    logger = logging.getLogger("toolkit")
    before = (logger.level, logger.propagate, list(logger.handlers))
    threads = threading.active_count()
    with logging_to(io.StringIO(), level=logging.DEBUG):
        assert logger.level == logging.DEBUG
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert threading.active_count() == threads


def test_a_stream_that_nobody_reads_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LINES_THAT_WAIT", 5)
    open_again = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            open_again.wait(10)
            return super().write(text)

    stream = Stuck()
    with logging_to(stream):
        started = time.perf_counter()
        for number in range(100):
            LOGGER.info("line %d", number)
        assert time.perf_counter() - started < 1
        open_again.set()
        deadline = time.monotonic() + 10
        while "were lost" not in stream.getvalue() and time.monotonic() < deadline:
            LOGGER.info("later")
            time.sleep(0.01)
    said = [line["message"] for line in lines(stream)]
    (lost,) = [int(message.split()[0]) for message in said if "were lost" in message]
    assert lost >= 93
    assert [message for message in said if message.startswith("line ")][:3] == ["line 0", "line 1", "line 2"]


def test_a_stream_that_is_closed_stops_nobody() -> None:
    stream = io.StringIO()
    stream.close()
    with logging_to(stream):
        LOGGER.info("nobody hears this")


def test_outside_of_a_request_there_is_no_id() -> None:
    with request_id() as used:
        assert logs._request_id.get() == used
    assert logs._request_id.get() == ""
