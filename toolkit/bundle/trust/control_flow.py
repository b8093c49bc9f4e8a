"""What in a file that is data can keep an engine busy for ever: loops, and functions that call each other.

A file without them does a piece of work per node, and memory is bounded where it runs. A loop of 2^62 rounds, or 30
functions that each call the next one twice, take a kilobyte. The networks that toolkit exports have neither.
"""

from __future__ import annotations

from xml.parsers import expat

from toolkit.bundle.trust.external_data import BYTES, fields, messages

ONNX_LOOPS = frozenset((b"Loop", b"Scan"))
OPENVINO_LOOPS = frozenset(("Loop", "TensorIterator"))
_OP_TYPE = 4
"""Field of a node (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)."""


def onnx_control_flow(content: bytes) -> str | None:
    """Say what of an ONNX file can run for ever, e.g. ``a Loop``; None if nothing can.

    Raises:
        ValueError: it is no ONNX file.
    """
    for kind, start, end in messages(content):
        if kind == "function":
            return "functions of its own"
        if kind == "node":
            for field, wire, first, last in fields(content, start, end):
                if field == _OP_TYPE and wire == BYTES and content[first:last] in ONNX_LOOPS:
                    return f"a {content[first:last].decode()}"
    return None


def openvino_control_flow(content: bytes) -> str | None:
    """Say what of an OpenVINO description can run for ever; None if nothing can.

    Raises:
        ValueError: it is no XML.
    """
    found: list[str] = []

    def look(_: str, attributes: dict[str, str]) -> None:
        if (kind := attributes.get("type")) in OPENVINO_LOOPS:
            found.append(f"a {kind}")

    parser = expat.ParserCreate()
    parser.StartElementHandler = look
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no XML ({error})") from error
    return found[0] if found else None
