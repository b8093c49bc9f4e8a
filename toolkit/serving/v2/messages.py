"""Requests and answers of the protocol, free of what carries them, and the binary form of ``BYTES``."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from toolkit.serving.refusals import BadRequest

_LENGTH = struct.Struct("<I")
"""What stands before each element of a tensor of the datatype ``BYTES``."""


@dataclass(frozen=True)
class Binary:
    """A tensor in the binary form of the protocol, which is a view of what came from the network.

    Row by row, little-endian, each element of ``BYTES`` after its length.
    """

    content: memoryview


@dataclass(frozen=True, eq=False)
class Numbers:
    """A tensor as numbers one by one, nested or flat; whether they are numbers at all has not been looked at."""

    values: Sequence[Any]


@dataclass(frozen=True)
class Elements:
    """The elements of a tensor of the datatype ``BYTES``."""

    values: Sequence[bytes | memoryview]


Content: TypeAlias = Binary | Numbers | Elements


@dataclass(frozen=True)
class InputTensor:
    """A tensor of a request, as it was sent: nothing of it has been held against a model yet."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: Content


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a request asks for.

    Attributes:
        classes: how many of the best classes are wanted instead of the tensor (the classification extension); None
            where the tensor is.
        binary: whether it is wanted in the binary form; gRPC does not ask.
    """

    name: str
    classes: object = None
    binary: bool = False


@dataclass(frozen=True)
class InferRequest:
    """A request for inference.

    Attributes:
        outputs: what it asks for; empty where it wants all that there is.
        binary: whether outputs are wanted in the binary form where ``outputs`` does not say.
        id: comes back in the answer.
        timeout_seconds: after which nobody waits for the answer any more; None where it does not say.
    """

    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    binary: bool = False
    id: str = ""
    timeout_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class OutputTensor:
    """A tensor of an answer.

    Attributes:
        datatype: ``FP32``, whose content is a float32 array, or ``BYTES``, whose content are its elements row by row.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: npt.NDArray[np.float32] | Sequence[bytes]
    binary: bool = False


@dataclass(frozen=True)
class InferResponse:
    """An answer to a request for inference, and which version of the model gave it."""

    model: str
    version: str
    id: str
    outputs: tuple[OutputTensor, ...]


def elements_of(content: memoryview, count: int) -> list[memoryview]:
    """Divide the binary form of a ``BYTES`` tensor into its elements, which are views of it.

    Args:
        content: each element after its length, four bytes, little-endian.
        count: how many there have to be.

    Raises:
        BadRequest: there are more or fewer, or one is cut off.
    """
    elements: list[memoryview] = []
    offset = 0
    while len(elements) < count:
        start = offset + _LENGTH.size
        if start > len(content):
            raise BadRequest(
                f"the binary data ends after {len(elements)} of the {count} elements that the shape promises; each is "
                "four bytes with its length, little-endian, and then its bytes."
            )
        (length,) = _LENGTH.unpack_from(content, offset)
        offset = start + length
        if offset > len(content):
            raise BadRequest(
                f"element {len(elements) + 1} of {count} is cut off: it says {length} bytes, and "
                f"{len(content) - start} are left."
            )
        elements.append(content[start:offset])
    if offset != len(content):
        raise BadRequest(f"{len(content) - offset} bytes are left over after the {count} elements of the shape.")
    return elements


def binary_of(tensor: OutputTensor) -> bytes:
    """Return the binary form of a tensor."""
    if isinstance(tensor.content, np.ndarray):
        return tensor.content.astype("<f4", copy=False).tobytes()
    return b"".join(part for element in tensor.content for part in (_LENGTH.pack(len(element)), element))
