"""Image files in the body of a request: one as the body itself, or several as a form (multipart/form-data)."""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from toolkit.printable import printable
from toolkit.serving.interface import Limits
from toolkit.serving.refusals import BadRequest, TooLarge

RAW = "application/octet-stream"
FORM = "multipart/form-data"
_SHOWN = 100
"""Characters of what somebody else wrote, in a message."""


@dataclass(frozen=True)
class Upload:
    """An image file that was sent.

    Attributes:
        content: of the file.
        name: that the form gives it; None where there is none.
    """

    content: bytes | memoryview
    name: str | None = None


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """Read the image files of a request: at least one.

    Args:
        request: whose body was not read yet.
        limits: of how many there may be.

    Raises:
        BadRequest: there is none, or the body is nothing that holds some.
        TooLarge: there are too many.
        Refusal: as the body is read, see ``toolkit.serving.guard``.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    media_type = kind.decode("latin-1")
    if media_type == FORM:
        form = _Form(options.get(b"boundary", b""), limits.images)
        async for piece in request.stream():
            form.feed(piece)
        return form.end()
    if media_type.startswith("image/") or media_type == RAW:
        content = await request.body()
        if not content:
            raise BadRequest("the request has no body: send an image file as the body, or several as a form.")
        return [Upload(content)]
    given = f"is {printable(media_type[:_SHOWN])!r}" if media_type else "was not given"
    raise BadRequest(
        f"the content type {given}: send an image file as the body, with a type such as image/jpeg or {RAW}, or "
        f"several as {FORM}."
    )


class _Form:
    """A form while it is read: only files are taken, under any name."""

    def __init__(self, boundary: bytes, most: int) -> None:
        if not boundary:
            raise BadRequest(f"the content type {FORM} lacks its boundary: let your client write that header.")
        self._most = most
        self._uploads: list[Upload] = []
        self._header = bytearray()
        self._value = bytearray()
        self._content = bytearray()
        self._name: str | None = None
        self._is_file = False
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._head,
                    "on_headers_finished": self._require_file,
                    "on_part_data": lambda data, start, end: self._content.extend(memoryview(data)[start:end]),
                    "on_part_end": self._finish,
                    "on_end": self._close,
                },
            )
        except FormParserError as error:
            raise _malformed(error) from error

    def feed(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            BadRequest: this is no form, or a part of it is no file.
            TooLarge: there are too many files.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(error) from error

    def end(self) -> list[Upload]:
        """Return the files.

        Raises:
            BadRequest: there is none, or the form ends early.
        """
        if not self._ended:
            raise BadRequest("the form ends before its last boundary: was the request cut off?")
        if not self._uploads:
            raise BadRequest("the form holds no file: add image files, under any name.")
        return self._uploads

    def _begin(self) -> None:
        if len(self._uploads) >= self._most:
            raise TooLarge(f"the form holds more than {self._most} files, the most that is taken here.")
        self._name, self._is_file, self._content = None, False, bytearray()

    def _head(self) -> None:
        name, value = bytes(self._header).lower(), bytes(self._value)
        self._header.clear()
        self._value.clear()
        if name == b"content-disposition":
            _, options = parse_options_header(value)
            if (given := options.get(b"filename")) is not None:
                self._is_file = True
                # What parses it has taken the bytes for Latin-1; browsers and curl write UTF-8.
                self._name = given.decode("utf-8", "replace")

    def _require_file(self) -> None:
        if not self._is_file:
            raise BadRequest("a part of the form is no file (it has no filename): send image files only.")

    def _finish(self) -> None:
        # A view, for a copy of a photograph is megabytes.
        self._uploads.append(Upload(memoryview(self._content).toreadonly(), self._name))

    def _close(self) -> None:
        self._ended = True


def _malformed(error: Exception) -> BadRequest:
    return BadRequest(f"the form cannot be read: {printable(str(error)[:_SHOWN])}.")
