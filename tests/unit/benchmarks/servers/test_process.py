from __future__ import annotations

import sys
import time

import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.servers.process import Server, answers, free_port, running

SMALL = """
import signal, sys
from http.server import HTTPServer, BaseHTTPRequestHandler
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(program: str = SMALL) -> Server:
    port = free_port()
    return Server([sys.executable, "-c", program, str(port)], port, "/ready")


def test_it_is_there_inside_the_block_and_gone_after_it() -> None:
    wanted = server()
    with running(wanted):
        assert answers(wanted.port, "/ready")
        assert not answers(wanted.port, "/other")
    assert not answers(wanted.port, "/ready")


def test_its_exit_code_is_that_of_being_asked_to_end() -> None:
    with running(server()) as started:
        assert started.memory_bytes > 0
        assert started.end() == 7


def test_one_that_stands_still_takes_no_time() -> None:
    with running(
        server(
            "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()\n"
            + SMALL
        )
    ) as one:
        one.pause()
        time.sleep(0.05)
        before = one.processor_seconds
        time.sleep(0.1)
        assert one.processor_seconds == before
        one.resume()
        time.sleep(0.3)
        assert one.processor_seconds > before


def test_one_that_ends_at_once_says_what_it_said() -> None:
    with pytest.raises(BenchmarkError, match="no such model"), running(server("raise SystemExit('no such model')")):
        pass


def test_one_without_grpc_says_so() -> None:
    with pytest.raises(BenchmarkError, match="does not listen for gRPC"):
        Server(["x"], 1, "/").port_of("grpc")
    assert Server(["x"], 1, "/", 2).port_of("grpc") == 2
