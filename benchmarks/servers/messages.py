"""Requests for each of the servers, and what their answers say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.harness.errors import BenchmarkError
from benchmarks.random_artifact import LABELS
from benchmarks.servers.client import HOST

Probabilities: TypeAlias = npt.NDArray[np.float32]
"""Of one image, ``[C]``, in the order of the labels."""
Read: TypeAlias = Callable[[bytes], Probabilities]

MODEL = "random"
"""The name that the model is served under."""
_INPUT, _OUTPUT = "images", "probabilities"
_BINARY_JSON = "Inference-Header-Content-Length"


def post(path: str, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a request of HTTP/1.1 as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1") + body


def raw(file: bytes) -> bytes:
    """Return a request whose body is the file."""
    return post("/predict", "image/jpeg", file)


def ours(file: bytes) -> bytes:
    """Return the same for ``toolkit serve``: asked for every class, as the others tell them."""
    return post(f"/predict?top={len(LABELS)}", "image/jpeg", file)


def form(file: bytes) -> bytes:
    """Return a request as the form of a page sends a file."""
    edge = "----------------benchmark"
    head = (
        f"--{edge}\r\n"
        'Content-Disposition: form-data; name="file"; filename="image.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return post(
        "/predict", f"multipart/form-data; boundary={edge}", head.encode() + file + f"\r\n--{edge}--\r\n".encode()
    )


def v2_file(file: bytes) -> bytes:
    """Return a request of the Open Inference Protocol over HTTP: an image file as a binary tensor."""
    return _v2(_bytes_tensor(file), "BYTES", [1])


def v2_pixels(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a request of the Open Inference Protocol over HTTP: prepared pixels ``[H, W, 3]`` as a binary tensor."""
    return _v2(pixels.tobytes(), "UINT8", [1, *pixels.shape])


def _v2(content: bytes, datatype: str, shape: list[int]) -> bytes:
    tensor = {
        "name": _INPUT,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": len(content)},
    }
    outputs = [{"name": _OUTPUT, "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    return post(f"/v2/models/{MODEL}/infer", "application/octet-stream", head + content, {_BINARY_JSON: str(len(head))})


def _bytes_tensor(file: bytes) -> bytes:
    return len(file).to_bytes(4, "little") + file


def grpc_file(file: bytes) -> bytes:
    """Return a ``ModelInferRequest`` that holds an image file, serialized."""
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name=_INPUT, datatype="BYTES")
    tensor.shape.append(1)
    request.outputs.add(name=_OUTPUT)
    request.raw_input_contents.append(_bytes_tensor(file))
    content: bytes = request.SerializeToString()
    return content


def read_labelled(labels: tuple[str, ...]) -> Read:
    """Return what reads JSON of ``{"probabilities": {label: number}}``."""

    def read(body: bytes) -> Probabilities:
        return _of_labels(json.loads(body)["probabilities"], labels)

    return read


def _of_labels(said: Mapping[str, float], labels: tuple[str, ...]) -> Probabilities:
    return np.array([said[label] for label in labels], np.float32)


def read_predictions(labels: tuple[str, ...]) -> Read:
    """Return what reads the answer of ``toolkit serve`` to one image."""

    def read(body: bytes) -> Probabilities:
        (said,) = json.loads(body)["predictions"]
        return _of_labels({each["label"]: each["probability"] for each in said["top"]}, labels)

    return read


def read_v2(body: bytes) -> Probabilities:
    """Read an answer of the Open Inference Protocol whose only output is a binary tensor behind the JSON."""
    said, end = _json_head(body)
    size = said["outputs"][0]["parameters"]["binary_data_size"]
    return np.frombuffer(body[end : end + size], np.float32)


def _json_head(body: bytes) -> tuple[Any, int]:
    """Return the JSON that a body begins with, and where it ends: what follows is no text."""
    return json.JSONDecoder().raw_decode(body.decode("latin-1"))


def read_grpc(body: bytes) -> Probabilities:
    """Read a serialized ``ModelInferResponse``.

    Raises:
        BenchmarkError: it holds no probabilities.
    """
    from tritonclient.grpc import service_pb2

    response = service_pb2.ModelInferResponse.FromString(body)
    for at, output in enumerate(response.outputs):
        if output.name == _OUTPUT:
            if response.raw_output_contents:
                return np.frombuffer(response.raw_output_contents[at], np.float32)
            return np.array(output.contents.fp32_contents, np.float32)
    raise BenchmarkError(f"an answer over gRPC has no output {_OUTPUT!r}.")
