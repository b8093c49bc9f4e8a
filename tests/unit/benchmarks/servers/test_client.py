"""What the client says came of its requests, from servers that answer well, badly, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.servers.client import (
    FAILED,
    HOST,
    INFER,
    LOST,
    OK,
    REFUSED,
    Client,
    Order,
    load,
    write_requests,
)
from benchmarks.servers.messages import post
from benchmarks.servers.process import free_port

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def say(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def echo(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    say(handler, OK, body)


@contextmanager
def http_server(answer: Answer) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer(self, self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def order(port: int, requests: Path, connections: int = 3, least: int = 30) -> Order:
    return Order("http", port, requests, connections, 0.0, least)


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    bodies = [b"zero", b"one" * 50_000, b"two"]
    return write_requests(tmp_path / "requests", [post("/predict", "text/plain", body) for body in bodies])


def test_requests_go_in_turn_and_each_has_its_answer(requests: Path) -> None:
    with http_server(echo) as port:
        loaded = load(order(port, requests))
    assert len(loaded.answers) >= 30
    for answer in loaded.answers:
        assert answer.status == OK
        assert answer.body == (b"zero", b"one" * 50_000, b"two")[answer.request]
        assert 0 <= answer.began < answer.ended
        assert answer.head == b""
    assert {answer.request for answer in loaded.answers} == {0, 1, 2}
    assert loaded.processor_seconds > 0


def test_the_head_of_a_refusal_is_kept(requests: Path) -> None:
    with http_server(lambda handler, _: say(handler, 503, b"full", Retry_After="2")) as port:
        loaded = load(order(port, requests))
    assert {(answer.status, answer.body) for answer in loaded.answers} == {(503, b"full")}
    assert all(b"\r\nRetry-After: 2\r\n" in answer.head for answer in loaded.answers)


def test_a_connection_that_is_closed_after_an_answer_is_made_again(requests: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        say(handler, OK, body, Connection="close")
        handler.close_connection = True

    with http_server(answer) as port:
        loaded = load(order(port, requests))
    assert len(loaded.answers) >= 30
    assert {answer.status for answer in loaded.answers} == {OK}


def test_half_an_answer_is_none(requests: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(OK)
        handler.send_header("Content-Length", str(len(body) + 1))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    with http_server(answer) as port:
        loaded = load(order(port, requests))
    assert {answer.status for answer in loaded.answers} == {LOST}
    assert all(answer.body for answer in loaded.answers)


def test_nobody_listens(requests: Path) -> None:
    loaded = load(order(free_port(), requests))
    assert [answer.status for answer in loaded.answers] == [REFUSED] * 3


def test_an_answer_must_say_how_long_it_is(requests: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(OK)
        handler.end_headers()
        handler.close_connection = True

    with http_server(answer) as port, pytest.raises(BenchmarkError, match="does not say how long it is"):
        load(order(port, requests))


def test_calls_of_grpc_have_their_answers_and_their_errors(tmp_path: Path) -> None:
    def infer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it is bad")
        return request * 2

    handler = grpc.method_handlers_generic_handler(
        INFER.split("/")[1], {INFER.split("/")[2]: grpc.unary_unary_rpc_method_handler(infer)}
    )
    folder = write_requests(tmp_path / "requests", [b"good", b"bad"])
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port(f"{HOST}:0")
        server.start()
        try:
            loaded = load(Order("grpc", port, folder, 10, 0.0, 40))
        finally:
            server.stop(None).wait()
    assert len(loaded.answers) >= 40
    said = {(answer.request, answer.status, answer.body, answer.head) for answer in loaded.answers}
    assert said == {(0, OK, b"goodgood", b""), (1, FAILED, b"it is bad", b"INVALID_ARGUMENT")}


def test_the_client_is_another_process(requests: Path) -> None:
    def silent(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(OK)
        handler.end_headers()

    with http_server(echo) as port, http_server(silent) as other, Client() as client:
        wait = client.begin(order(port, requests))
        assert len(wait().answers) >= 30
        with pytest.raises(BenchmarkError, match="does not say how long"):
            client.load(order(other, requests))
