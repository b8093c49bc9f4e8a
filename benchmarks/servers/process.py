"""A server in processes of its own: started, waited for, made to stand still in the turns of others."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.child import Child
from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.memory import anonymous_bytes
from benchmarks.harness.processor import processor_seconds
from benchmarks.servers.client import HOST, OK
from benchmarks.servers.messages import MODEL

START_SECONDS = 120.0
END_SECONDS = 60.0
_ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class Server:
    """How a server is started.

    Attributes:
        words: the command.
        port: where it will listen for HTTP.
        ready: the path that answers 200 once it takes requests.
        grpc_port: where it will listen for gRPC, if it does.
        environment: added to that of this process.
    """

    words: Sequence[str]
    port: int
    ready: str
    grpc_port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def port_of(self, protocol: str) -> int:
        """Return where it listens.

        Raises:
            BenchmarkError: it does not speak gRPC.
        """
        if protocol == "http":
            return self.port
        if self.grpc_port is None:
            raise BenchmarkError(f"{self.words[0]} does not listen for gRPC.")
        return self.grpc_port


def toolkit_server(bundle: Path, *options: str) -> Server:
    """Return how ``toolkit serve`` is started with a bundle, or a folder of versions, under the name that is asked."""
    port, grpc_port = free_port(), free_port()
    words = [sys.executable, "-m", "toolkit", "serve", f"{MODEL}={bundle}", "--host", HOST]
    words += ["--port", str(port), "--grpc-port", str(grpc_port), *options]
    return Server(words, port, "/v2/health/ready", grpc_port)


class Running:
    """A server that was started."""

    def __init__(self, server: Server, child: Child) -> None:
        self.server = server
        self._child = child

    def await_ready(self) -> None:
        """Wait until it takes requests.

        Raises:
            BenchmarkError: it has ended, or did not answer in time.
        """
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._child.wait(0.05):
                self._child.result(0.0, allowed=())
            if answers(self.server.port, self.server.ready):
                return
        raise BenchmarkError(f"{' '.join(self.server.words[:4])} ... took no requests within {START_SECONDS:.0f} s.")

    @property
    def processor_seconds(self) -> float:
        """What it has taken of the processors so far, with all that it started."""
        return processor_seconds(self._child.pid)

    @property
    def memory_bytes(self) -> int:
        """Anonymous memory that it has now, with all that it started."""
        return anonymous_bytes(self._child.pid)

    def pause(self) -> None:
        """Let it stand still."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._child.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end, as a service manager does."""
        self._child.terminate()

    def end(self) -> int:
        """Ask it to end and wait for that; return its exit code.

        Raises:
            BenchmarkError: it has not ended in time.
        """
        self.terminate()
        if not self._child.wait(END_SECONDS) or self._child.code is None:
            raise BenchmarkError(f"{' '.join(self.server.words[:4])} ... has not ended within {END_SECONDS:.0f} s.")
        return self._child.code


def answers(port: int, path: str) -> bool:
    """Tell whether a server answers 200 for a path."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def running(server: Server) -> Iterator[Running]:
    """Start a server, wait until it is ready, and end it with the block.

    Raises:
        BenchmarkError: it could not be started.
    """
    # The sides are modules of this package, and toolkit may be a checkout that is not installed.
    path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH")) if part)
    with Child(server.words, {"PYTHONPATH": path, **server.environment}) as child:
        started = Running(server, child)
        started.await_ready()
        yield started
