"""``examples/python-service``: judged by golden samples, and what a service that is copied must survive."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import change_weights
from hosts import EXAMPLES, ROOT, SECONDS, require_passed, require_refused, run_example
from PIL import Image

from toolkit.preprocess import Preprocessing, prepare

pytest.importorskip("fastapi", reason="FastAPI, which the extra 'dev' brings, is not installed")
pytest.importorskip("uvicorn", reason="uvicorn, which the extra 'dev' brings, is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGTERM that a process can answer"),
]

MOST_BYTES = 20 * 2**20
JPEG = {"Content-Type": "image/jpeg"}


def test_a_run_reproduces_its_golden_samples(finished: Path) -> None:
    require_passed(run_example("python-service", finished / "artifacts" / "small" / "bundle"), "FastAPI ")


@pytest.mark.parametrize("crop_fraction", [1.0, 0.9, 0.875, 0.5, 0.333])
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(8, 8), (7, 12)])
def test_a_sample_as_a_file_is_prepared_to_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], resize: str, crop_fraction: float
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "shared")
    spec = importlib.util.spec_from_file_location("run_of_the_service", EXAMPLES / "python-service" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    height, width = size
    values = {"height": height, "width": width, "resize": resize, "interpolation": "bicubic"}
    preprocessing = Preprocessing.model_validate({**values, "crop_fraction": crop_fraction})
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    bundle = types.SimpleNamespace(manifest={"preprocessing": preprocessing.model_dump()})
    np.testing.assert_array_equal(prepare(program.as_file(bundle, pixels), preprocessing), pixels)


def test_a_network_with_other_weights_is_not_served(colour_bundle: Path) -> None:
    change_weights(colour_bundle, lambda weights: weights * np.float32(1.01))
    said = "the golden samples do not come out here as they did where the bundle was made"
    require_refused(run_example("python-service", colour_bundle), said)


class Service:
    """The service in a process, as its README starts it."""

    def __init__(self, bundle: Path, log: Path, *options: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "service:app", "--port", "0", *options],
                cwd=EXAMPLES / "python-service",
                env={**os.environ, "BUNDLE": str(bundle), "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=output,
            )
        self.port = self._listens()

    def _listens(self) -> int:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"running on http://[\d.]+:(\d+)", self.said):
                return int(found[1])
            time.sleep(0.02)
        self.process.kill()
        self.process.wait()
        raise AssertionError(self.said)

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def post(self, content: Any, headers: dict[str, str] | None = None, **options: Any) -> tuple[int, Any]:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request("POST", "/predict", content, headers or JPEG, **options)
            response = connection.getresponse()
            return response.status, json.loads(response.read())


@contextlib.contextmanager
def serving(bundle: Path, log: Path, *options: str) -> Iterator[Service]:
    service = Service(bundle, log, *options)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait()


@pytest.fixture(scope="module")
def service(colour_bundle_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(colour_bundle_once, tmp_path_factory.mktemp("service") / "log.txt") as started:
        yield started
        assert "Traceback" not in started.said


def photograph(colour: tuple[int, int, int], side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "JPEG")
    return file.getvalue()


RED = photograph((200, 0, 0))
HEAD = (
    f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(RED)}\r\nConnection: close\r\n"
    "Expect: 100-continue\r\n\r\n"
).encode()


def test_it_says_what_an_image_is(service: Service) -> None:
    for label, colour in {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}.items():
        status, answer = service.post(photograph(colour))
        assert (status, answer["label"]) == (200, label)
        assert answer["probability"] == max(answer["probabilities"])
        assert len(answer["logits"]) == 3


def test_a_body_that_is_no_image_is_a_sentence(service: Service) -> None:
    makes = random.Random(0)
    bodies = [b"", b"\0", b"GIF89a", b"{}", RED[:-20], RED[:200], RED[5:], makes.randbytes(10_000)]
    for _ in range(60):
        damaged = bytearray(RED)
        for _ in range(makes.randint(1, 30)):
            damaged[makes.randrange(len(damaged))] = makes.randrange(256)
        bodies.append(bytes(damaged))
    answers = [service.post(body) for body in bodies]
    assert {status for status, _ in answers} == {200, 422}  # some damage is only seen
    assert [status for status, _ in answers[:8]] == [422] * 8
    assert answers[0][1] == {"detail": answers[0][1]["detail"]}
    assert all(isinstance(answer["detail"], str) for status, answer in answers if status == 422)
    assert service.post(RED)[0] == 200


def test_a_body_that_is_too_large_is_refused_while_it_is_read(service: Service) -> None:
    status, answer = service.post(bytes(MOST_BYTES + 1))
    assert (status, answer) == (413, {"detail": f"an image may have {MOST_BYTES} bytes at most"})
    # One that says no length and has no end.
    with socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS) as endless:
        endless.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"100000\r\n" + bytes(2**20) + b"\r\n"
        with contextlib.suppress(ConnectionError):  # it was refused, and nobody reads any more
            for _ in range(40):
                endless.sendall(part)
        with contextlib.suppress(ConnectionError):
            assert endless.recv(100).startswith(b"HTTP/1.1 413")
    assert service.post(RED)[0] == 200


def test_whoever_leaves_in_the_middle_harms_nobody(service: Service) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS) as leaving:
            leaving.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + RED[:100])
    assert service.post(RED)[0] == 200


def test_it_says_in_its_schema_what_it_takes(service: Service) -> None:
    with contextlib.closing(HTTPConnection("127.0.0.1", service.port, timeout=SECONDS)) as connection:
        connection.request("GET", "/openapi.json")
        schema = json.loads(connection.getresponse().read())
    assert schema["info"]["title"] == "colours"
    assert list(schema["paths"]["/predict"]["post"]["requestBody"]["content"]) == ["image/*"]


def test_no_request_of_many_is_lost_or_mixed_up(service: Service) -> None:
    colours = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}
    images = {label: photograph(colour) for label, colour in colours.items()}

    def ask(number: int) -> bool:
        label = list(colours)[number % 3]
        status, answer = service.post(images[label])
        return status == 200 and answer["label"] == label

    with ThreadPoolExecutor(64) as callers:
        assert all(callers.map(ask, range(384)))


@contextlib.contextmanager
def begun(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """Yield requests that the service has accepted and whose image it waits for."""
    with contextlib.ExitStack() as connections:
        requests = []
        for _ in range(count):
            request = socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS)
            requests.append(connections.enter_context(request))
            request.sendall(HEAD)
            assert request.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        yield requests


def finished_by(requests: list[socket.socket]) -> bool:
    """Send the image of each, and tell whether all are answered with what it shows."""
    for request in requests:
        request.sendall(RED)
    answers = [b"".join(iter(partial(request.recv, 10_000), b"")) for request in requests]
    return all(answer.startswith(b"HTTP/1.1 200 ") and b'"label":"red"' in answer for answer in answers)


def test_whoever_comes_beyond_the_limit_is_told_so(colour_bundle_once: Path, tmp_path: Path) -> None:
    with serving(colour_bundle_once, tmp_path / "log.txt", "--limit-concurrency", "4") as service:
        with begun(service, 3) as requests:
            with socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS) as fourth:
                fourth.sendall(HEAD)
                assert fourth.recv(1000).startswith(b"HTTP/1.1 503 ")
            assert finished_by(requests)
        assert service.post(RED)[0] == 200


def test_a_service_that_is_told_to_end_answers_what_it_has(colour_bundle_once: Path, tmp_path: Path) -> None:
    with serving(colour_bundle_once, tmp_path / "log.txt") as service, begun(service, 8) as requests:
        service.process.send_signal(signal.SIGTERM)
        while _takes_connections(service):
            time.sleep(0.01)
        assert finished_by(requests)
        assert service.process.wait(SECONDS) in (0, -signal.SIGTERM)  # uvicorn ends as the signal would have ended it
        assert "Traceback" not in service.said


def _takes_connections(service: Service) -> bool:
    try:
        socket.create_connection(("127.0.0.1", service.port), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True
