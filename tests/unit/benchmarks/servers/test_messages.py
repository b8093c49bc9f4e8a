"""Requests are what the protocols say, held against their own parsers; answers give the probabilities back."""

from __future__ import annotations

import json
from email import message_from_bytes

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from benchmarks.harness.errors import BenchmarkError
from benchmarks.servers.messages import (
    form,
    grpc_file,
    ours,
    post,
    raw,
    read_grpc,
    read_labelled,
    read_predictions,
    read_v2,
    v2_file,
    v2_pixels,
)

FILE = b"\xff\xd8 a file \r\n\x00"
PROBABILITIES = np.array([0.25, 0.75], np.float32)


def parts(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers["Content-Length"]) == len(body)
    return first, headers, body


def test_a_file_is_the_body() -> None:
    assert parts(raw(FILE)) == (
        "POST /predict HTTP/1.1",
        {"Host": "127.0.0.1", "Content-Type": "image/jpeg", "Content-Length": str(len(FILE))},
        FILE,
    )
    assert parts(ours(FILE))[0] == "POST /predict?top=10 HTTP/1.1"
    assert parts(post("/", "a/b", b"", {"X": "y"}))[1]["X"] == "y"


def test_a_form_holds_the_file() -> None:
    _, headers, body = parts(form(FILE))
    (part,) = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body).get_payload()
    assert part.get_param("name", header="content-disposition") == "file"
    assert part.get_payload(decode=True) == FILE


@pytest.mark.parametrize("binary", ["file", "pixels"])
def test_a_binary_tensor_stands_behind_the_json_that_describes_it(binary: str) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    first, headers, body = parts(v2_file(FILE) if binary == "file" else v2_pixels(pixels))
    assert first == "POST /v2/models/random/infer HTTP/1.1"
    size = int(headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(body[:size])["inputs"]
    assert tensor["parameters"]["binary_data_size"] == len(body) - size
    if binary == "file":
        assert (tensor["datatype"], tensor["shape"]) == ("BYTES", [1])
        assert body[size:] == len(FILE).to_bytes(4, "little") + FILE
    else:
        assert (tensor["datatype"], tensor["shape"]) == ("UINT8", [1, 2, 4, 3])
        assert body[size:] == pixels.tobytes()


def test_a_request_of_grpc_holds_the_file() -> None:
    request = service_pb2.ModelInferRequest.FromString(grpc_file(FILE))
    assert (request.model_name, request.inputs[0].datatype, list(request.inputs[0].shape)) == ("random", "BYTES", [1])
    assert list(request.raw_input_contents) == [len(FILE).to_bytes(4, "little") + FILE]


def test_probabilities_are_read_in_the_order_of_the_labels() -> None:
    body = json.dumps({"label": "b", "probabilities": {"b": 0.75, "a": 0.25}}).encode()
    np.testing.assert_array_equal(read_labelled(("a", "b"))(body), PROBABILITIES)


def test_the_classes_of_our_own_answer_are_read_whatever_their_order() -> None:
    top = [{"label": "b", "probability": 0.75}, {"label": "a", "probability": 0.25}]
    body = json.dumps({"model": "m", "version": "1", "predictions": [{"label": "b", "probability": 0.75, "top": top}]})
    np.testing.assert_array_equal(read_predictions(("a", "b"))(body.encode()), PROBABILITIES)


def test_a_binary_answer_is_read() -> None:
    output = {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    body = json.dumps({"model_name": "ü", "outputs": [output]}, ensure_ascii=False).encode() + PROBABILITIES.tobytes()
    np.testing.assert_array_equal(read_v2(body), PROBABILITIES)


def test_an_answer_of_grpc_is_read_in_either_form() -> None:
    response = service_pb2.ModelInferResponse()
    response.outputs.add(name="logits")
    response.outputs.add(name="probabilities")
    response.raw_output_contents.extend([b"\0" * 8, PROBABILITIES.tobytes()])
    np.testing.assert_array_equal(read_grpc(response.SerializeToString()), PROBABILITIES)
    typed = service_pb2.ModelInferResponse()
    typed.outputs.add(name="probabilities").contents.fp32_contents.extend(PROBABILITIES.tolist())
    np.testing.assert_array_equal(read_grpc(typed.SerializeToString()), PROBABILITIES)
    with pytest.raises(BenchmarkError, match="no output 'probabilities'"):
        read_grpc(b"")
