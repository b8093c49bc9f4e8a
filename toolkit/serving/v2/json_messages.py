"""Requests and answers as HTTP carries them: JSON, with tensors in it or, in the binary form, behind it.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.printable import printable
from toolkit.serving.refusals import BadRequest, TooLarge
from toolkit.serving.v2.contract import MOST_NUMBERS, shown
from toolkit.serving.v2.messages import (
    Binary,
    Content,
    Elements,
    InferRequest,
    InferResponse,
    InputTensor,
    Numbers,
    OutputTensor,
    RequestedOutput,
    binary_of,
)

_FURTHER = 100_000
"""Commas, and brackets, beside those of the numbers of a tensor."""


class _Part(BaseModel):
    """A part of a request. What the protocol does not name is let through: other servers have further extensions."""

    model_config = ConfigDict(strict=True, frozen=True)

    parameters: dict[str, Any] | None = None

    def parameter(self, name: str) -> Any:
        return (self.parameters or {}).get(name)


class _Input(_Part):
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None


class _Output(_Part):
    name: str


class _Request(_Part):
    id: str | None = None
    inputs: list[_Input] = Field(max_length=100)
    outputs: list[_Output] | None = Field(None, max_length=100)


def parse_object(content: bytes | memoryview) -> dict[str, Any]:
    """Parse a JSON object of a stranger, whose values are bounded in number before a parser makes objects of them.

    Raises:
        BadRequest: it is no JSON (RFC 8259), or no object.
        TooLarge: it has more values than any request needs.
    """
    text = bytes(content)
    # A nested row of three pixels has one bracket; an empty one, the shortest thing that costs memory, has one too.
    if text.count(b",") > MOST_NUMBERS + _FURTHER or text.count(b"[") + text.count(b"{") > MOST_NUMBERS // 2 + _FURTHER:
        raise TooLarge(
            f"the JSON has more values than the {MOST_NUMBERS} numbers that the server takes one by one. Send the "
            "pixels in the binary form, or the image files."
        )
    try:
        tree = json.loads(text.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error))
        raise BadRequest(f"the request is no JSON: {reason[:200]}.") from error
    if not isinstance(tree, dict):
        raise BadRequest(f"the request is a JSON {type(tree).__name__}; the protocol takes an object.")
    return tree


def parse_request(body: bytes, header_length: int | None) -> InferRequest:
    """Read the body of a request for inference.

    Args:
        body: JSON, and behind it the tensors that are in the binary form.
        header_length: bytes of the JSON (``Inference-Header-Content-Length``); None where all of it is JSON.

    Raises:
        BadRequest: it is not what the protocol takes.
        TooLarge: it has more values than any request needs.
    """
    view = memoryview(body)
    if header_length is not None and header_length > len(body):
        raise BadRequest(
            f"Inference-Header-Content-Length is {header_length}, and the whole request has {len(body)} bytes."
        )
    document, behind = (view, view[:0]) if header_length is None else (view[:header_length], view[header_length:])
    try:
        request = _Request.model_validate(parse_object(document))
    except ValidationError as error:
        raise BadRequest(f"the request is not one of the protocol: {_first(error)}.") from error
    inputs = []
    for tensor in request.inputs:
        content, behind = _content(tensor, behind)
        inputs.append(InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), content))
    if len(behind):
        raise BadRequest(f"{len(behind)} bytes are left over behind the JSON and the binary data of its inputs.")
    binary = _flag(request, "binary_data_output", False)
    outputs = tuple(
        RequestedOutput(output.name, output.parameter("classification"), _flag(output, "binary_data", binary))
        for output in request.outputs or ()
    )
    return InferRequest(tuple(inputs), outputs, binary, request.id or "", _timeout(request))


def render_response(response: InferResponse) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the bytes of its JSON where tensors in the binary form stand behind it."""
    described, behind = [], []
    for tensor in response.outputs:
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if tensor.binary:
            behind.append(binary_of(tensor))
            entry["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            entry["data"] = _values(tensor)
        described.append(entry)
    answer = {"model_name": response.model, "model_version": response.version}
    document = render({**answer, **({"id": response.id} if response.id else {}), "outputs": described})
    return b"".join((document, *behind)), len(document) if behind else None


def render(value: object) -> bytes:
    """Return JSON in ASCII, because a client may have sent halves of characters, which no encoding can write."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _content(tensor: _Input, behind: memoryview) -> tuple[Content, memoryview]:
    """Return the content of an input, and what stands behind the JSON for the inputs after it."""
    size = tensor.parameter("binary_data_size")
    if size is None:
        if tensor.data is None:
            raise BadRequest(f"the input {shown(tensor.name)} has no data, neither as JSON nor in the binary form.")
        return _from_json(tensor.datatype, tensor.data), behind
    if tensor.data is not None:
        raise BadRequest(f"the input {shown(tensor.name)} has its data as JSON and in the binary form: send one.")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(behind):
        raise BadRequest(
            f"binary_data_size of the input {shown(tensor.name)} is {shown(size)}; {len(behind)} bytes are there for "
            "it behind the JSON (Inference-Header-Content-Length says where they begin)."
        )
    return Binary(behind[:size]), behind[size:]


def _from_json(datatype: str, data: list[Any]) -> Content:
    if datatype != "BYTES":
        return Numbers(data)
    return Elements([_from_base64(element) for element in data])


def _from_base64(element: object) -> bytes:
    """Return an image file. JSON holds text, which no image file is, so it stands there in base64."""
    if not isinstance(element, str):
        raise BadRequest(f"an element of BYTES in JSON is an image file in base64, not {type(element).__name__}.")
    try:
        return binascii.a2b_base64(element, strict_mode=True)
    except ValueError as error:
        raise BadRequest(
            f"an element of BYTES in JSON is an image file in base64, which this is not: {error}."
        ) from error


def _values(tensor: OutputTensor) -> Sequence[Any]:
    if isinstance(tensor.content, np.ndarray):
        values: list[float] = tensor.content.ravel().tolist()
        return values
    return [element.decode() for element in tensor.content]


def _flag(part: _Part, name: str, default: bool) -> bool:
    value = part.parameter(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"the parameter {name} is {shown(value)}; it is true or false.")
    return value


def _timeout(request: _Request) -> float | None:
    """Return seconds of what the protocol says in microseconds."""
    return timeout_seconds(request.parameter("timeout"))


def timeout_seconds(microseconds: object) -> float | None:
    """Return what the parameter ``timeout`` says; None where it says nothing, as 0 does.

    Raises:
        BadRequest: it is no whole number of microseconds.
    """
    if microseconds is None:
        return None
    if not isinstance(microseconds, int) or isinstance(microseconds, bool) or not 0 <= microseconds < 2**63:
        raise BadRequest(f"the parameter timeout is {shown(microseconds)}; it is a whole number of microseconds.")
    return microseconds / 1e6 or None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
