"""Whether ``toolkit serve`` holds: many connections, a full queue, the end under load, new versions under load, clients
that are slow or gone, requests that are none. The real command, asked by the client of the benchmarks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import change_weights

import toolkit
from benchmarks import serve, serve_memory
from benchmarks.harness.pictures import write_pictures
from benchmarks.servers.client import (
    FAILED,
    HOST,
    LOST,
    OK,
    REFUSED,
    Answer,
    Client,
    Loaded,
    Order,
    write_requests,
)
from benchmarks.servers.messages import MODEL, grpc_file, post, raw, read_grpc, v2_file
from benchmarks.servers.process import Running, answers, running, toolkit_server
from benchmarks.servers.sides import FASTAPI, FASTAPI_TUTORIAL, OURS, V2_FILE, V2_GRPC
from toolkit.bundle import Bundle
from toolkit.bundle.writer import write_golden, write_manifest

pytestmark = pytest.mark.slow

OVERLOADED = 503
SECONDS = 60.0
"""More than anything takes on a busy machine; what hangs is noticed after them."""
SIGNAL_SECONDS = 0.3
"""What a signal may take until it is noticed."""
FILES = 12


@dataclass(frozen=True)
class Case:
    """Image files, as requests, and what a bundle says of them."""

    folder: Path
    contents: Sequence[bytes]
    expected: Sequence[str]
    """The label of each."""


def case(folder: Path, bundle: Path, size: tuple[int, int], count: int) -> Case:
    contents = [path.read_bytes() for path in write_pictures(folder, size, count)]
    with toolkit.load(bundle, threads=1) as predictor:
        labels = [prediction.label for prediction in predictor.predict(contents)]
    return Case(write_requests(folder / "requests", [raw(content) for content in contents]), contents, labels)


@pytest.fixture(scope="module")
def small(colour_bundle_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    made = case(tmp_path_factory.mktemp("files") / "small", colour_bundle_once, (32, 32), FILES)
    assert len(set(made.expected)) > 1, "nobody could tell an answer that belongs to another request"
    return made


@pytest.fixture(scope="module")
def large(colour_bundle_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Files that take a while: some 30 ms each."""
    return case(tmp_path_factory.mktemp("files") / "large", colour_bundle_once, (1600, 1200), FILES)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client() as made:
        yield made


@pytest.fixture(scope="module")
def server(colour_bundle_once: Path) -> Iterator[Running]:
    with running(toolkit_server(colour_bundle_once)) as started:
        yield started


def http(server: Running, case: Case, connections: int, seconds: float = 0.5) -> Order:
    return Order("http", server.server.port, case.folder, connections, seconds, least=2 * connections)


def statuses(given: Sequence[Answer]) -> dict[int, int]:
    return dict(Counter(answer.status for answer in given))


def require_right(given: Sequence[Answer], case: Case) -> None:
    """Every good answer is about the image that was sent."""
    said = [json.loads(answer.body)["predictions"][0]["label"] for answer in given if answer.status == OK]
    assert said == [case.expected[answer.request] for answer in given if answer.status == OK]


@pytest.mark.parametrize("connections", [1, 8, 64, 256])
def test_below_the_limit_of_the_queue_every_request_is_answered(
    server: Running, client: Client, small: Case, connections: int
) -> None:
    loaded = client.load(http(server, small, connections))
    assert set(statuses(loaded.answers)) == {OK}
    require_right(loaded.answers, small)


def test_both_protocols_at_once_answer_everything(server: Running, client: Client, small: Case, tmp_path: Path) -> None:
    folder = write_requests(tmp_path / "grpc", [grpc_file(content) for content in small.contents])
    with Client() as second:
        wait = second.begin(Order("grpc", server.server.port_of("grpc"), folder, 64, 1.0, least=128))
        loaded = client.load(http(server, small, 64, 1.0))
        over_grpc = wait()
    for given in (loaded, over_grpc):
        assert set(statuses(given.answers)) == {OK}
    require_right(loaded.answers, small)
    labels = ("blue", "green", "red")
    said = [labels[int(read_grpc(answer.body).argmax())] for answer in over_grpc.answers]
    assert said == [small.expected[answer.request] for answer in over_grpc.answers]


def test_above_the_limit_there_is_503_with_a_time_to_come_back_and_nothing_else(
    colour_bundle_once: Path, client: Client, large: Case, tmp_path: Path
) -> None:
    folder = write_requests(tmp_path / "grpc", [grpc_file(content) for content in large.contents])
    with running(toolkit_server(colour_bundle_once, "--queue", "4")) as server:
        loaded = client.load(http(server, large, 64, 1.0))
        port = server.server.port_of("grpc")
        over_grpc = client.load(Order("grpc", port, folder, 64, 1.0, least=128))
        after = client.load(http(server, large, 1))
    assert set(statuses(loaded.answers)) == {OK, OVERLOADED}
    require_right(loaded.answers, large)
    for refused in (answer for answer in loaded.answers if answer.status == OVERLOADED):
        heads = dict(line.lower().split(b": ", 1) for line in refused.head.split(b"\r\n")[1:] if line)
        assert int(heads[b"retry-after"]) >= 1
        assert "come back" in json.loads(refused.body)["error"]
    assert set(statuses(over_grpc.answers)) == {OK, FAILED}
    assert {answer.head for answer in over_grpc.answers if answer.status == FAILED} == {b"UNAVAILABLE"}
    assert set(statuses(after.answers)) == {OK}, "places in the queue were not given back"


def readiness(port: int, ended: threading.Event) -> list[tuple[float, bool | None]]:
    """Ask for readiness until it ends; None where nobody listens any more."""
    seen: list[tuple[float, bool | None]] = []
    while not ended.is_set():
        asked = time.time()
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/v2/health/ready", timeout=5) as response:
                seen.append((asked, response.status == OK))
        except urllib.error.HTTPError as error:
            seen.append((asked, False))
            error.close()
        except OSError:
            seen.append((asked, None))
        time.sleep(0.01)
    return seen


def test_at_its_end_every_accepted_request_is_answered_and_no_new_one_taken(
    colour_bundle_once: Path, client: Client, large: Case
) -> None:
    seen: list[tuple[float, bool | None]] = []
    ended = threading.Event()
    with running(toolkit_server(colour_bundle_once)) as server:
        port = server.server.port
        asking = threading.Thread(target=lambda: seen.extend(readiness(port, ended)))
        asking.start()
        wait = client.begin(http(server, large, 32, 8.0))
        time.sleep(3.0)
        told = time.time()
        code = server.end()
        gone = time.time()
        loaded = wait()
        ended.set()
        asking.join()
    assert code == 0
    assert gone - told < SECONDS / 2
    before = [answer for answer in loaded.answers if loaded.clock + answer.began < told - SIGNAL_SECONDS]
    between = [answer for answer in loaded.answers if abs(loaded.clock + answer.began - told) <= SIGNAL_SECONDS]
    after = [answer for answer in loaded.answers if loaded.clock + answer.began > told + SIGNAL_SECONDS]
    assert statuses(before).keys() == {OK}
    assert any(loaded.clock + answer.ended > told for answer in before + between if answer.status == OK), (
        "none was left"
    )
    require_right(loaded.answers, large)
    # What comes while the signal does is taken or refused; after it, refused.
    assert set(statuses(between)) <= {OK, OVERLOADED, LOST, REFUSED}
    assert after
    assert set(statuses(after)) <= {OVERLOADED, LOST, REFUSED}
    assert [answer for answer in loaded.answers if answer.status == LOST and answer.body] == [], "half an answer"
    states = [state for asked, state in seen if asked > told + SIGNAL_SECONDS]
    assert True not in states
    assert False in [state for asked, state in seen if asked > told], "it was gone before it said that it is not ready"


def better(bundle: Path, target: Path) -> Path:
    """Another version of a bundle: it gives other answers, which its golden samples expect."""
    shutil.copytree(bundle, target)
    change_weights(target, lambda weights: weights[::-1] * 2)
    opened = Bundle.open(target)
    golden, images = opened.golden(), opened.golden_images()
    with toolkit.load(target, threads=1) as predictor:
        outputs = predictor.run(images)
        manifest = predictor.manifest
    shutil.rmtree(target / "golden")
    sources = [one.source for one in golden.cases]
    files = write_golden(target, images, outputs, sources, [None] * len(images), manifest.labels)
    kept = {name: record for name, record in manifest.files.items() if not name.startswith("golden/")}
    write_manifest(target, manifest.model_copy(update={"files": {**kept, **files}}))
    return target


def index(port: int) -> dict[str, tuple[str, str]]:
    """Version to its state and the reason."""
    asked = urllib.request.Request(f"http://{HOST}:{port}/v2/repository/index", data=b"{}", method="POST")
    with urllib.request.urlopen(asked, timeout=SECONDS) as response:
        return {entry["version"]: (entry["state"], entry["reason"]) for entry in json.load(response)}


def load_until(client: Client, order: Order, is_over: Callable[[], bool]) -> list[Loaded]:
    """Load, order by order, until something has happened, and once more."""
    loaded: list[Loaded] = []
    until = time.monotonic() + SECONDS
    while not is_over():
        assert time.monotonic() < until, "it has not happened"
        loaded.append(client.load(order))
    return [*loaded, client.load(order)]


def rest_of(connection: socket.socket, rest: bytes) -> tuple[int, Any]:
    """Send the rest of a request, and return status and JSON of its answer."""
    connection.sendall(rest)
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, json.load(answer)


def test_versions_come_under_load_without_a_lost_request_and_a_bad_one_never(
    colour_bundle_once: Path, client: Client, small: Case, tmp_path: Path
) -> None:
    versions, making = tmp_path / "versions", tmp_path / "making"
    shutil.copytree(colour_bundle_once, versions / "1")
    second = better(colour_bundle_once, making / "2")
    with toolkit.load(second, threads=1) as predictor:
        labels = {"1": small.expected, "2": [one.label for one in predictor.predict(small.contents)]}
    assert labels["1"] != labels["2"]
    change_weights(shutil.copytree(colour_bundle_once, making / "3"), lambda weights: weights * 3)
    damaged = shutil.copytree(colour_bundle_once, making / "4") / "model.onnx"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    requests = [post("/predict?version=1", "image/jpeg", content) for content in small.contents]
    with running(toolkit_server(versions)) as server, Slow(server.server.port) as slow:
        port, order = server.server.port, http(server, small, 32, 1.0)
        assert index(port)["1"][0] == "READY"
        taken = [slow.say(request[:-10]) for request in requests]
        second.rename(versions / "2")
        swapped = load_until(client, order, lambda: index(port).get("2", ("",))[0] == "READY")
        assert index(port).get("1", ("",))[0] != "READY"
        late = [rest_of(connection, request[-10:]) for connection, request in zip(taken, requests, strict=True)]
        (making / "3").rename(versions / "3")
        (making / "4").rename(versions / "4")
        with_bad = load_until(
            client, order, lambda: {index(port).get(bad, ("",))[0] for bad in "34"} == {"UNAVAILABLE"}
        )
        states = index(port)
        is_ready = answers(port, "/v2/health/ready")
    given = [answer for loaded in swapped + with_bad for answer in loaded.answers]
    assert set(statuses(given)) == {OK}
    for answer in given:
        said = json.loads(answer.body)
        assert said["predictions"][0]["label"] == labels[said["version"]][answer.request]
    assert {json.loads(answer.body)["version"] for answer in swapped[0].answers} >= {"1"}
    assert {json.loads(answer.body)["version"] for answer in swapped[-1].answers} == {"2"}
    assert {json.loads(answer.body)["version"] for loaded in with_bad for answer in loaded.answers} == {"2"}
    # These had got the first version, and sent the rest when it had been replaced.
    assert {status for status, _ in late} == {OK}, late
    assert {said["version"] for _, said in late} == {"1"}
    assert [said["predictions"][0]["label"] for _, said in late] == labels["1"]
    assert is_ready
    assert states["2"] == ("READY", "")
    assert "golden samples" in states["3"][1]
    assert "model.onnx" in states["4"][1]


def test_memory_stays_flat(server: Running, colour_bundle_once: Path, tmp_path: Path) -> None:
    """Some seconds of what ``python -m benchmarks.serve_memory`` does for ten minutes, once it has what it needs."""
    # Of larger pictures, what the allocator keeps of those that were decoded at one time would hide a leak.
    requests = serve_memory.write_mixture(tmp_path, colour_bundle_once, (400, 300))
    serve_memory.measure(server, requests, argparse.Namespace(seconds=5.0, connections=16))
    samples = serve_memory.measure(server, requests, argparse.Namespace(seconds=6.0, connections=16))
    assert samples[-1].answered > 100
    assert [claim for claim in serve_memory.claims(samples) if not claim.met] == []


class Slow:
    """Connections that say too little, or the half of it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._held = ExitStack()

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def say(self, start: bytes) -> socket.socket:
        connection = self._held.enter_context(socket.create_connection((HOST, self._port), timeout=SECONDS))
        connection.sendall(start)
        return connection


def test_clients_that_are_slow_or_gone_block_nobody(server: Running, client: Client, small: Case, large: Case) -> None:
    whole, wholes = raw(large.contents[0]), v2_file(large.contents[1])
    with Slow(server.server.port) as slow:
        for _ in range(50):
            slow.say(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Le")
            slow.say(whole[: len(whole) // 2])
            slow.say(wholes[: len(wholes) // 2])
            slow.say(whole[: len(whole) // 2]).close()
            slow.say(whole).close()  # it does not wait for the answer
        loaded = client.load(http(server, small, 64, 1.0))
    assert set(statuses(loaded.answers)) == {OK}
    require_right(loaded.answers, small)
    assert max(answer.ended - answer.began for answer in loaded.answers) < SECONDS / 4
    assert set(statuses(client.load(http(server, small, 256)).answers)) == {OK}, (
        "places in the queue were not given back"
    )


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_the_limit(
    colour_bundle_once: Path, small: Case, client: Client
) -> None:
    whole = raw(small.contents[0])
    with running(toolkit_server(colour_bundle_once, "--timeout", "1")) as server, Slow(server.server.port) as slow:
        held = [slow.say(whole[:-10]) for _ in range(20)]
        began = time.monotonic()
        said = [connection.recv(65536) for connection in held]
        assert time.monotonic() - began < SECONDS / 4
        assert {answer[:12] for answer in said} <= {b"HTTP/1.1 408", b"HTTP/1.1 504", b""}
        assert set(statuses(client.load(http(server, small, 8)).answers)) == {OK}


def malformed(content: bytes) -> list[bytes]:
    infer = f"/v2/models/{MODEL}/infer"
    wrong = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [0] * 192}]}
    small = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [0] * 5}]}
    return [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /predict HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 99999999999\r\n\r\nabc",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        post("/predict", "image/jpeg", b""),
        post("/predict", "image/jpeg", b"no image"),
        post("/predict", "image/jpeg", content[: len(content) // 2]),
        post("/predict", "text/plain", content),
        post("/predict", "multipart/form-data; boundary=x", b"--x\r\nno form"),
        post("/predict?top=none", "image/jpeg", content),
        post("/predict?model=other", "image/jpeg", content),
        post(infer, "application/json", b"{"),
        post(infer, "application/json", b"[1, 2]"),
        post(infer, "application/json", json.dumps(wrong).encode()),
        post(infer, "application/json", json.dumps(small).encode()),
        post(infer, "application/octet-stream", b"{}", {"Inference-Header-Content-Length": "99"}),
        post("/v2/models/other/infer", "application/json", b"{}"),
        post(infer + "r", "application/json", b"{}"),
        post(f"/v2/models/{MODEL}/versions/9/infer", "application/json", b"{}"),
    ]


async def ask_all(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """Send all of them at once, and return what is answered."""

    async def ask(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(request)
            await writer.drain()
            return await asyncio.wait_for(reader.read(65536), SECONDS)
        finally:
            writer.close()

    return list(await asyncio.gather(*(ask(request) for request in requests)))


def test_two_hundred_requests_at_once_that_are_none_are_refused_one_by_one(
    server: Running, client: Client, small: Case
) -> None:
    requests = malformed(small.contents[0])
    said = asyncio.run(ask_all(server.server.port, requests * 10))
    for at, answer in enumerate(said):
        status = answer[9:12]
        assert status[:1] == b"4", (requests[at % len(requests)][:200], answer[:500])
        assert b"Traceback" not in answer
    loaded = client.load(http(server, small, 8))
    assert set(statuses(loaded.answers)) == {OK}
    require_right(loaded.answers, small)


def test_the_benchmark_measures_every_side_that_is_installed(tmp_path: Path) -> None:
    """A small one: its answers are held against the predictor's; whether its claims are met is not asked."""
    words = ["--backbone", "torchvision:squeezenet1_1", "--image-size", "32", "--small", "5", "--photographs", "2"]
    words += ["--connections", "1", "4", "--photograph-connections", "2", "--rounds", "1", "--seconds", "0.2"]
    assert serve.benchmark([*words, "--output", str(tmp_path)]) in (0, 1)
    found = json.loads((tmp_path / "serve_32px.json").read_text())
    assert {files: set(at) for files, at in found["measurements"].items()} == {
        "32 x 32": {"1", "4"},
        "4000 x 3000": {"2"},
    }
    for numbers in found["measurements"].values():
        for sides in numbers.values():
            assert {OURS, V2_FILE, V2_GRPC, FASTAPI, FASTAPI_TUTORIAL} <= set(sides)
            for side, turns in sides.items():
                assert [turn["errors"] for turn in turns] == [0], side
                assert np.isfinite([value for turn in turns for value in turn.values()]).all()
    assert "| 32 x 32 | 4 | toolkit, /predict |" in (tmp_path / "serve_32px.md").read_text()
