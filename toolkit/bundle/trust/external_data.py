"""Which other files an ONNX file points to: read from the protobuf bytes themselves, before any engine opens them.

An ONNX file may keep its weights in other files, named by path. An engine follows such a path wherever it leads, so it
has to be known before. Only the messages on the way to a tensor are looked at; field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, the encoding is that of
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Kind of message to the fields that lead to a tensor, with the kind of message they hold."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Fields of a tensor."""
_EXTERNAL = 1
"""``data_location`` of a tensor whose data are in another file."""
_KEY, _VALUE = 1, 2
"""Fields of one entry of ``external_data``."""
_VARINT, _FIXED64, BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types. The two others, groups, have been obsolete since before ONNX."""


def external_locations(content: bytes) -> Iterator[str]:
    """Yield the location of every tensor that an ONNX file keeps elsewhere; an empty string where it names none.

    Raises:
        ValueError: the file is not a protobuf message, so that nothing can be said of it.
    """
    for kind, start, end in messages(content):
        if kind == "tensor":
            yield from _of_tensor(content, start, end)


def messages(content: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield each message on the way to a tensor by its kind, and where it starts and ends, from the model inwards.

    Raises:
        ValueError: see ``external_locations``.
    """
    if not content:
        raise ValueError("it is empty")
    waiting = [("model", 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        yield kind, start, end
        if kind not in _CHILDREN:
            continue
        for field, wire, first, last in fields(content, start, end):
            if wire == BYTES and field in _CHILDREN[kind]:
                waiting.append((_CHILDREN[kind][field], first, last))


def _of_tensor(content: bytes, start: int, end: int) -> list[str]:
    external, locations = False, []
    for field, wire, first, last in fields(content, start, end):
        if field == _EXTERNAL_DATA and wire == BYTES:
            locations += _location(content, first, last)
        elif field == _DATA_LOCATION and wire == _VARINT:
            # An enumeration has 32 bits; what is above them is dropped.
            external = external or _varint(content, first, last)[0] & 0xFFFFFFFF == _EXTERNAL
    return locations or ([""] if external else [])


def _location(content: bytes, start: int, end: int) -> list[str]:
    """Return the values of an entry that has the key ``location``.

    All of them, because parsers may differ in which one they keep.
    """
    keys: list[bytes] = []
    values: list[bytes] = []
    for field, wire, first, last in fields(content, start, end):
        if wire == BYTES and field in (_KEY, _VALUE):
            (keys if field == _KEY else values).append(content[first:last])
    return [value.decode(errors="replace") for value in values or [b""]] if b"location" in keys else []


def fields(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield field number, wire type, and where the value starts and ends, of each field of a message."""
    at = start
    while at < end:
        tag, at = _varint(content, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            last = _varint(content, at, end)[1]
        elif wire == BYTES:
            length, at = _varint(content, at, end)
            last = at + length
        elif wire in (_FIXED32, _FIXED64):
            last = at + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"it is not an ONNX file: byte {at} holds wire type {wire}")
        if field == 0 or last > end:
            raise ValueError(f"it is not a whole ONNX file: byte {at} leads out of its message")
        yield field, wire, at, last
        at = last


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"it is not a whole ONNX file: a number is cut off at byte {at}")
