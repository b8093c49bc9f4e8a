"""The JSON of HTTP, with tensors in it or behind it."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import FUZZ
from toolkit.serving.refusals import BadRequest, Refusal, TooLarge
from toolkit.serving.v2.json_messages import (
    parse_object,
    parse_request,
    render,
    render_response,
    timeout_seconds,
)
from toolkit.serving.v2.messages import Binary, Elements, InferResponse, Numbers, OutputTensor, RequestedOutput


def body_of(behind: bytes = b"", **request: Any) -> tuple[bytes, int]:
    document = json.dumps(request).encode()
    return document + behind, len(document)


def an_input(**fields: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": [1, 2], **fields}


def test_numbers_stand_in_the_json() -> None:
    body, _ = body_of(id="7", inputs=[an_input(data=[[1, 2]])])
    request = parse_request(body, None)
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("images", "UINT8", (1, 2))
    assert isinstance(tensor.content, Numbers)
    assert tensor.content.values == [[1, 2]]
    assert (request.id, request.outputs, request.binary, request.timeout_seconds) == ("7", (), False, None)


def test_binary_tensors_are_views_of_the_body_in_the_order_of_the_inputs() -> None:
    inputs = [an_input(parameters={"binary_data_size": 3}), an_input(name="b", parameters={"binary_data_size": 0})]
    body, length = body_of(b"abc", inputs=inputs)
    first, second = (tensor.content for tensor in parse_request(body, length).inputs)
    assert isinstance(first, Binary)
    assert isinstance(second, Binary)
    assert (bytes(first.content), bytes(second.content)) == (b"abc", b"")
    assert first.content.obj is body


def test_image_files_stand_in_the_json_in_base64() -> None:
    files = [b"\xff\xd8\xff jpeg", b"\x89PNG"]
    body, _ = body_of(
        inputs=[an_input(datatype="BYTES", shape=[2], data=[base64.b64encode(file).decode() for file in files])]
    )
    (tensor,) = parse_request(body, None).inputs
    assert tensor.content == Elements(files)


def test_outputs_say_what_they_are_wanted_as() -> None:
    outputs = [
        {"name": "label"},
        {"name": "logits", "parameters": {"binary_data": False, "classification": 2}},
    ]
    body, _ = body_of(inputs=[], outputs=outputs, parameters={"binary_data_output": True, "timeout": 1500000})
    request = parse_request(body, None)
    assert request.outputs == (RequestedOutput("label", binary=True), RequestedOutput("logits", 2, False))
    assert request.timeout_seconds == 1.5


def test_what_the_protocol_does_not_name_is_let_through() -> None:
    body, _ = body_of(inputs=[an_input(data=[], more=1)], outputs=None, id=None, parameters={"priority": 1}, more={})
    assert len(parse_request(body, None).inputs) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON: Expecting value"),
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON: 'utf-8' codec"),
        ("{}".encode("utf-16"), "is no JSON"),
        (b"[1]", "is a JSON list; the protocol takes an object"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"1" * 5000, "is no JSON"),
        (b"[" * 50_000, "it is nested too deeply"),
        (b'{"a":' * 50_000, "it is nested too deeply"),
    ],
)
def test_what_is_no_object_of_json_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_object(content)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"0,"])
def test_more_values_than_any_request_needs_are_refused_before_they_become_objects(piece: bytes) -> None:
    with pytest.raises(TooLarge, match="more values than the 2097152 numbers that the server takes one by one"):
        parse_object(b"[" + piece * 2_300_000)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "not one of the protocol: inputs: Field required"),
        ({"inputs": [{}]}, "inputs.0.name: Field required"),
        ({"inputs": "images"}, "inputs: Input should be a valid list"),
        ({"inputs": [an_input(shape=[1.0])]}, "inputs.0.shape.0: Input should be a valid integer"),
        ({"inputs": [an_input(shape=[True])]}, "inputs.0.shape.0: Input should be a valid integer"),
        ({"inputs": [an_input(name=5, data=[])]}, "inputs.0.name: Input should be a valid string"),
        ({"inputs": [an_input(data=5)]}, "inputs.0.data: Input should be a valid list"),
        ({"inputs": [], "id": 5}, "id: Input should be a valid string"),
        ({"inputs": [an_input()] * 101}, "inputs: List should have at most 100 items"),
        ({"inputs": [an_input()]}, "the input 'images' has no data, neither as JSON nor in the binary form"),
        (
            {"inputs": [an_input(parameters={"shared_memory_region": "r"})]},
            "has no data, neither as JSON nor in the binary form",
        ),
        ({"inputs": [an_input(data=[1], parameters={"binary_data_size": 0})]}, "as JSON and in the binary form: send"),
        ({"inputs": [an_input(parameters={"binary_data_size": 1})]}, "binary_data_size of the input 'images' is 1; 0"),
        ({"inputs": [an_input(parameters={"binary_data_size": -1})]}, "binary_data_size of the input 'images' is -1"),
        ({"inputs": [an_input(parameters={"binary_data_size": "0"})]}, "binary_data_size of the input 'images' is '0'"),
        ({"inputs": [], "parameters": {"binary_data_output": 1}}, "binary_data_output is 1; it is true or false"),
        ({"inputs": [], "parameters": {"timeout": -1}}, "timeout is -1; it is a whole number of microseconds"),
        ({"inputs": [an_input(datatype="BYTES", data=["!"])]}, "is an image file in base64, which this is not"),
        ({"inputs": [an_input(datatype="BYTES", data=["é"])]}, "is an image file in base64, which this is not"),
        ({"inputs": [an_input(datatype="BYTES", data=[7])]}, "is an image file in base64, not int"),
    ],
)
def test_what_is_no_request_is_refused(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_request(*body_of(**request_))


def test_a_header_longer_than_the_body_is_refused() -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length is 3, and the whole request has 2 bytes"):
        parse_request(b"{}", 3)


def test_bytes_that_belong_to_no_input_are_refused() -> None:
    with pytest.raises(BadRequest, match="4 bytes are left over behind the JSON"):
        parse_request(*body_of(b"more", inputs=[an_input(data=[1])]))


SCORES = np.array([[0.1, 0.9]], np.float32)


def response_of(**forms: bool) -> InferResponse:
    return InferResponse(
        "colours",
        "1",
        "7",
        (
            OutputTensor("logits", "FP32", (1, 2), SCORES, forms.get("logits", False)),
            OutputTensor("label", "BYTES", (1,), ["grün".encode()], forms.get("label", False)),
        ),
    )


def test_an_answer_in_json_has_its_values_in_a_row() -> None:
    body, length = render_response(response_of())
    assert length is None
    answer = json.loads(body)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("colours", "1", "7")
    logits, label = answer["outputs"]
    assert np.array_equal(np.array(logits["data"], np.float32), SCORES.ravel())
    assert label == {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["grün"]}


def test_tensors_in_the_binary_form_stand_behind_the_json() -> None:
    body, length = render_response(response_of(logits=True, label=True))
    assert length is not None
    logits, label = json.loads(body[:length])["outputs"]
    assert (logits["parameters"], label["parameters"]) == ({"binary_data_size": 8}, {"binary_data_size": 9})
    assert "data" not in logits
    assert body[length:] == SCORES.tobytes() + b"\x05\0\0\0" + "grün".encode()


def test_each_output_has_its_own_form() -> None:
    body, length = render_response(response_of(logits=True))
    assert length is not None
    logits, label = json.loads(body[:length])["outputs"]
    assert "data" not in logits
    assert label["data"] == ["grün"]


def test_an_id_that_no_encoding_can_write_comes_back() -> None:
    request = parse_request(b'{"id": "\\ud800", "inputs": []}', None)
    assert json.loads(render({"id": request.id})) == {"id": "\ud800"}


@pytest.mark.parametrize(("microseconds", "seconds"), [(None, None), (0, None), (1, 1e-6), (2_000_000, 2.0)])
def test_a_timeout_is_microseconds(microseconds: object, seconds: float | None) -> None:
    assert timeout_seconds(microseconds) == seconds


@FUZZ
@given(body=st.binary(max_size=60), length=st.none() | st.integers(0, 60))
def test_fuzz_any_bytes_are_a_request_or_refused(body: bytes, length: int | None) -> None:
    with pytest.raises(Refusal):
        parse_request(body, length)
