"""The messages of gRPC, and what becomes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from toolkit.serving.refusals import BadRequest
from toolkit.serving.v2.grpc_messages import message_of, parse_message, parse_request, response_message
from toolkit.serving.v2.messages import Binary, Elements, InferResponse, Numbers, OutputTensor, RequestedOutput

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor


def an_input(**contents: Any) -> Any:
    return Input(name="images", datatype="UINT8", shape=[1, 2], contents=pb.InferTensorContents(**contents))


def test_raw_contents_are_views_of_the_message() -> None:
    inputs = [Input(name="images", datatype="UINT8", shape=[1, 2]), Input(name="b", datatype="BYTES", shape=[0])]
    request = parse_request(pb.ModelInferRequest(id="7", inputs=inputs, raw_input_contents=[b"ab", b""]))
    first, second = request.inputs
    assert (first.name, first.datatype, first.shape, request.id) == ("images", "UINT8", (1, 2), "7")
    assert isinstance(first.content, Binary)
    assert isinstance(second.content, Binary)
    assert (bytes(first.content.content), bytes(second.content.content)) == (b"ab", b"")


def test_typed_contents_are_numbers_or_elements() -> None:
    files = Input(name="images", datatype="BYTES", shape=[1], contents=pb.InferTensorContents(bytes_contents=[b"a"]))
    numbers, elements = parse_request(pb.ModelInferRequest(inputs=[an_input(uint_contents=[1, 255]), files])).inputs
    assert isinstance(numbers.content, Numbers)
    assert list(numbers.content.values) == [1, 255]
    assert isinstance(elements.content, Elements)
    assert list(elements.content.values) == [b"a"]


def test_outputs_and_parameters() -> None:
    outputs = [Output(name="label"), Output(name="logits")]
    outputs[1].parameters["classification"].int64_param = 2
    message = pb.ModelInferRequest(outputs=outputs)
    message.parameters["timeout"].int64_param = 1_500_000
    request = parse_request(message)
    assert request.outputs == (RequestedOutput("label"), RequestedOutput("logits", 2))
    assert request.timeout_seconds == 1.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": [an_input()] * 2, "raw_input_contents": [b"a"]}, "has 1 raw_input_contents for 2 inputs"),
        ({"raw_input_contents": [b"a"]}, "has 1 raw_input_contents for 0 inputs"),
        (
            {"inputs": [an_input(uint_contents=[1])], "raw_input_contents": [b"a"]},
            "the input 'images' has raw_input_contents and uint_contents: send one",
        ),
        ({"inputs": [an_input()]}, "has no data; UINT8 goes into raw_input_contents or uint_contents"),
        ({"inputs": [an_input(int_contents=[1])]}, "has int_contents; UINT8 goes into raw_input_contents or uint_con"),
        ({"inputs": [an_input(uint_contents=[1], fp32_contents=[1])]}, "has uint_contents and fp32_contents; UINT8"),
    ],
)
def test_tensors_that_are_elsewhere_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_request(pb.ModelInferRequest(**fields))


@pytest.mark.parametrize("field", ["string_param", "bool_param", "double_param"])
def test_a_timeout_of_another_type_is_refused(field: str) -> None:
    message = pb.ModelInferRequest()
    setattr(message.parameters["timeout"], field, {"string_param": "1", "bool_param": True, "double_param": 1.0}[field])
    with pytest.raises(BadRequest, match="it is a whole number of microseconds"):
        parse_request(message)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(BadRequest, match="the message is no ModelInferRequest of the protocol"):
        parse_message(pb.ModelInferRequest, b"\xff\xff")


def test_fields_that_grpc_has_no_place_for_are_left_out() -> None:
    message = message_of(
        pb.ModelMetadataResponse,
        {"name": "a", "inputs": [{"name": "images", "shape": [-1, 3], "parameters": {}}], "parameters": {"labels": []}},
    )
    assert (message.name, list(message.inputs[0].shape)) == ("a", [-1, 3])


RESPONSE = InferResponse(
    "colours",
    "1",
    "7",
    (
        OutputTensor("logits", "FP32", (1, 2), np.array([[0.1, 0.9]], np.float32)),
        OutputTensor("label", "BYTES", (1,), [b"red"]),
    ),
)


def test_a_raw_answer() -> None:
    message = response_message(RESPONSE, raw=True)
    assert (message.model_name, message.model_version, message.id) == ("colours", "1", "7")
    assert [(each.name, each.datatype, list(each.shape)) for each in message.outputs] == [
        ("logits", "FP32", [1, 2]),
        ("label", "BYTES", [1]),
    ]
    assert list(message.raw_output_contents) == [
        np.array([0.1, 0.9], "<f4").tobytes(),
        b"\x03\0\0\0red",
    ]


def test_a_typed_answer() -> None:
    message = response_message(RESPONSE, raw=False)
    logits, label = message.outputs
    assert np.array_equal(np.array(logits.contents.fp32_contents, np.float32), RESPONSE.outputs[0].content.ravel())
    assert list(label.contents.bytes_contents) == [b"red"]
    assert not message.raw_output_contents
