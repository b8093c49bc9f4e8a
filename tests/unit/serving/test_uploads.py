from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from tests.unit.serving.conftest import form
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import BadRequest, TooLarge
from toolkit.serving.uploads import Upload, read_uploads


def read(content_type: str | None, *pieces: bytes, most: int = 4) -> list[tuple[str | None, bytes]]:
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return waiting.pop(0)

    headers = [] if content_type is None else [(b"content-type", content_type.encode("latin-1"))]
    request = Request({"type": "http", "headers": headers}, receive)
    uploads = asyncio.run(read_uploads(request, Limits(images=most)))
    return [(upload.name, bytes(upload.content)) for upload in uploads]


@pytest.mark.parametrize("content_type", ["image/jpeg", "IMAGE/PNG", "image/*", "application/octet-stream; x=1"])
def test_a_body_is_one_file(content_type: str) -> None:
    assert read(content_type, b"ab", b"c") == [(None, b"abc")]


def test_a_form_holds_several_with_their_names() -> None:
    content, headers = form(("a.jpg", b"one"), ("b \u00fc.png", b"\r\n--limi\r\n--"), ("a.jpg", b""))
    expected = [("a.jpg", b"one"), ("b \u00fc.png", b"\r\n--limi\r\n--"), ("a.jpg", b"")]
    assert read(headers["content-type"], content) == expected
    assert read(headers["content-type"], *(content[at : at + 1] for at in range(len(content)))) == expected


def test_a_file_is_taken_without_copying_it() -> None:
    content, headers = form(("a", b"one"))

    async def work() -> list[Upload]:
        async def receive() -> Any:
            return {"type": "http.request", "body": content, "more_body": False}

        scope = {"type": "http", "headers": [(b"content-type", headers["content-type"].encode())]}
        return await read_uploads(Request(scope, receive), Limits())

    (upload,) = asyncio.run(work())
    assert isinstance(upload.content, memoryview)
    assert upload.content.readonly


@pytest.mark.parametrize(
    ("content_type", "content", "said"),
    [
        (None, b"abc", "the content type was not given: send an image file as the body"),
        ("", b"abc", "the content type was not given"),
        ("text/plain", b"abc", "the content type is 'text/plain': send an image file as the body"),
        ("te\x1bxt", b"abc", "the content type is 'te\\\\x1bxt'"),
        ("image/jpeg", b"", "the request has no body"),
        ("multipart/form-data", b"abc", "lacks its boundary"),
        ("multipart/form-data; boundary=" + "x" * 1000, b"abc", "the form cannot be read"),
        ("multipart/form-data; boundary=limit", b"", "the form ends before its last boundary"),
        ("multipart/form-data; boundary=limit", b"no form", "the form cannot be read"),
        ("multipart/form-data; boundary=limit", form(("a", b"abc"))[0][:-10], "the form ends before its last boundary"),
        ("multipart/form-data; boundary=limit", b"--limit--\r\n", "the form holds no file"),
        ("multipart/form-data; boundary=limit", form((None, b"abc"))[0], "a part of the form is no file"),
    ],
)
def test_what_holds_no_image_is_refused_with_what_to_do(content_type: str | None, content: bytes, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(content_type, content)
    assert said in str(refused.value)


def test_too_many_files_are_refused_before_they_are_all_read() -> None:
    content, headers = form(*((str(number), b"x") for number in range(5)))
    with pytest.raises(TooLarge, match="more than 4 files"):
        read(headers["content-type"], content)
    assert len(read(headers["content-type"], content, most=5)) == 5


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_form_however_damaged_is_anything_but_files_or_a_refusal(data: st.DataObject) -> None:
    content, headers = form(("a.jpg", b"one"), ("b.jpg", b"two"))
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        if not damaged:
            break
    with suppress(BadRequest, TooLarge):
        assert all(isinstance(file, bytes) for _, file in read(headers["content-type"], bytes(damaged)))
