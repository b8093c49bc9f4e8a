"""The ways to be asked that are compared, and the servers behind them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.random_artifact import LABELS
from benchmarks.servers.client import HOST, Protocol
from benchmarks.servers.kserve_environment import python_with_kserve
from benchmarks.servers.messages import (
    MODEL,
    Read,
    form,
    grpc_file,
    ours,
    raw,
    read_grpc,
    read_labelled,
    read_predictions,
    read_v2,
    v2_file,
    v2_pixels,
)
from benchmarks.servers.process import Server, free_port, toolkit_server
from toolkit.runtime import Predictor

OURS, V2_FILE, V2_PIXELS, V2_GRPC = "toolkit, /predict", "toolkit, V2 file", "toolkit, V2 pixels", "toolkit, gRPC file"
FASTAPI, FASTAPI_TUTORIAL = "FastAPI", "FastAPI, in the event loop"
LITSERVE, KSERVE = "LitServe", "KServe, gRPC file"


@dataclass(frozen=True)
class Side:
    """One way to be asked.

    Attributes:
        server: the key of the server.
        protocol: how it is asked.
        ask: from an image file to a request.
        read: from the body of an answer to probabilities.
        photographs: whether photographs are sent to it too.
    """

    server: str
    protocol: Protocol
    ask: Callable[[bytes], bytes]
    read: Read
    photographs: bool = True


def sides_of(predictor: Predictor) -> dict[str, Side]:
    """Return every way to be asked that there is."""
    labelled = read_labelled(LABELS)
    return {
        OURS: Side("toolkit", "http", ours, read_predictions(LABELS)),
        V2_FILE: Side("toolkit", "http", v2_file, read_v2),
        V2_PIXELS: Side("toolkit", "http", lambda file: v2_pixels(predictor.prepare(file)), read_v2, photographs=False),
        V2_GRPC: Side("toolkit", "grpc", grpc_file, read_grpc),
        FASTAPI: Side("fastapi", "http", raw, labelled),
        FASTAPI_TUTORIAL: Side("fastapi_tutorial", "http", form, labelled),
        LITSERVE: Side("litserve", "http", raw, labelled),
        KSERVE: Side("kserve", "grpc", grpc_file, read_grpc),
    }


def servers_of(bundle: Path, kserve: Path | None) -> tuple[dict[str, Server], dict[str, str]]:
    """Return how each server is started, and why those are not measured that are missing."""
    environment = {"BUNDLE": str(bundle)}
    servers: dict[str, Server] = {}
    missing: dict[str, str] = {}
    servers["toolkit"] = toolkit_server(bundle)
    for name in ("fastapi", "fastapi_tutorial"):
        port = free_port()
        module = {"fastapi": "fastapi_handler"}.get(name, name)
        words = [sys.executable, "-m", "uvicorn", f"benchmarks.servers.{module}:app", "--host", HOST]
        words += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
        servers[name] = Server(words, port, "/openapi.json", environment=environment)
    port = free_port()
    servers["litserve"] = Server(
        [sys.executable, "-m", "benchmarks.servers.litserve_api", str(port)], port, "/health", environment=environment
    )
    for name, package in {"fastapi": "fastapi", "fastapi_tutorial": "fastapi", "litserve": "litserve"}.items():
        if importlib.util.find_spec(package) is None:
            servers.pop(name)
            missing[name] = f"the package {package} is not installed"
    if kserve is None:
        missing["kserve"] = "it was not asked for with --kserve"
    else:
        python = python_with_kserve(None if kserve == Path() else kserve)
        port, grpc_port = free_port(), free_port()
        words = [str(python), "-m", "benchmarks.servers.kserve_model", str(port), str(grpc_port), MODEL]
        servers["kserve"] = Server(words, port, "/v2/health/ready", grpc_port, environment)
    return servers, missing
