"""The binary form of BYTES, against the one that tritonclient writes and reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from tests.fuzzing import FUZZ
from toolkit.serving.refusals import BadRequest
from toolkit.serving.v2.messages import OutputTensor, binary_of, elements_of

ELEMENTS = [b"first", b"", b"\xff\xd8 third"]
BINARY = b"\x05\0\0\0first\0\0\0\0\x08\0\0\0\xff\xd8 third"


def test_elements_are_views_of_what_came() -> None:
    content = memoryview(BINARY)
    elements = elements_of(content, 3)
    assert [bytes(element) for element in elements] == ELEMENTS
    assert all(element.obj is content.obj for element in elements)


def test_a_client_writes_what_is_read_here() -> None:
    assert serialize_byte_tensor(np.array(ELEMENTS, np.object_)).item() == BINARY


def test_a_client_reads_what_is_written_here() -> None:
    written = binary_of(OutputTensor("label", "BYTES", (3,), ELEMENTS))
    assert written == BINARY
    assert list(deserialize_bytes_tensor(written)) == ELEMENTS


def test_float32_is_written_little_endian_row_by_row() -> None:
    values = np.array([[1, 2], [3, 4]], ">f4").T
    assert binary_of(OutputTensor("logits", "FP32", (2, 2), values)) == np.array([1, 3, 2, 4], "<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "count", "message"),
    [
        (b"", 1, "ends after 0 of the 1 elements"),
        (BINARY, 4, "ends after 3 of the 4 elements"),
        (BINARY[:-1], 3, "element 3 of 3 is cut off: it says 8 bytes, and 7 are left"),
        (b"\xff\xff\xff\xff", 1, "element 1 of 1 is cut off: it says 4294967295 bytes, and 0 are left"),
        (BINARY, 2, "12 bytes are left over after the 2 elements"),
    ],
)
def test_other_elements_than_the_shape_promises_are_refused(content: bytes, count: int, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        elements_of(memoryview(content), count)


@FUZZ
@given(content=st.binary(max_size=40), count=st.integers(1, 5))
def test_fuzz_any_bytes_are_read_whole_or_refused(content: bytes, count: int) -> None:
    try:
        elements = elements_of(memoryview(content), count)
    except BadRequest:
        return
    assert binary_of(OutputTensor("images", "BYTES", (count,), [bytes(each) for each in elements])) == content
