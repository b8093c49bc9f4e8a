"""Requests and answers as gRPC carries them, in the messages that tritonclient ships.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from toolkit.serving.refusals import BadRequest
from toolkit.serving.v2.contract import shown
from toolkit.serving.v2.json_messages import timeout_seconds
from toolkit.serving.v2.messages import (
    Binary,
    Content,
    Elements,
    InferRequest,
    InferResponse,
    InputTensor,
    Numbers,
    RequestedOutput,
    binary_of,
)

_TYPED = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}
"""Where the protocol wants the values of a datatype one by one."""


def parse_message(kind: Any, content: bytes) -> Any:
    """Parse a message.

    Raises:
        BadRequest: it is none of this kind.
    """
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise BadRequest(f"the message is no {kind.DESCRIPTOR.name} of the protocol.") from error


def message_of(kind: Any, fields: Mapping[str, Any]) -> Any:
    """Return a message with these fields; those that gRPC has no place for are left out."""
    return json_format.ParseDict(dict(fields), kind(), ignore_unknown_fields=True)


def parse_request(message: Any) -> InferRequest:
    """Read a request for inference.

    Args:
        message: a ``ModelInferRequest``.

    Raises:
        BadRequest: its tensors are not where the protocol wants them.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadRequest(f"the request has {len(raw)} raw_input_contents for {len(message.inputs)} inputs.")
    inputs = tuple(
        InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), _content(tensor, raw, position))
        for position, tensor in enumerate(message.inputs)
    )
    outputs = tuple(
        RequestedOutput(output.name, _parameter(output.parameters, "classification")) for output in message.outputs
    )
    # Whoever sends the values one by one reads them one by one too.
    timeout = timeout_seconds(_parameter(message.parameters, "timeout"))
    return InferRequest(inputs, outputs, bool(raw), message.id, timeout)


def response_message(response: InferResponse, raw: bool) -> Any:
    """Return a ``ModelInferResponse``.

    Args:
        response: the answer.
        raw: whether the tensors go into ``raw_output_contents``, or else value by value.
    """
    message = pb.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    for tensor in response.outputs:
        entry = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            message.raw_output_contents.append(binary_of(tensor))
        elif isinstance(tensor.content, np.ndarray):
            entry.contents.fp32_contents.extend(tensor.content.ravel())
        else:
            entry.contents.bytes_contents.extend(tensor.content)
    return message


def _content(tensor: Any, raw: Any, position: int) -> Content:
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if raw:
        if filled:
            raise BadRequest(f"the input {shown(tensor.name)} has raw_input_contents and {filled[0]}: send one.")
        return Binary(memoryview(raw[position]))
    wanted = _TYPED.get(tensor.datatype)
    if wanted is None:
        return Numbers(())  # its datatype is none that a model takes, which is said of it later
    if filled != [wanted]:
        has = " and ".join(filled) or "no data"
        raise BadRequest(
            f"the input {shown(tensor.name)} has {has}; {tensor.datatype} goes into raw_input_contents or {wanted}."
        )
    values = getattr(tensor.contents, wanted)
    return Elements(values) if tensor.datatype == "BYTES" else Numbers(values)


def _parameter(parameters: Any, name: str) -> Any:
    """Return the value of a parameter, of whichever type it was sent as; None where it was not sent."""
    if name not in parameters:
        return None
    choice = parameters[name].WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameters[name], choice)
