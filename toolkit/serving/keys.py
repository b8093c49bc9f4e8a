"""API keys: who may ask the server, over HTTP and gRPC alike."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from toolkit.errors import ToolkitError
from toolkit.files import read_text
from toolkit.printable import printable
from toolkit.serving.refusals import Unauthorized

SHORTEST_KEY = 16
"""Characters; shorter ones can be guessed."""
_BEARER = "bearer "


class ApiKeys:
    """Keys that are known.

    What is given is compared with every key, in a time that depends on neither.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Read keys from a file: one a line; blank lines and lines that start with ``#`` are left out.

        Raises:
            ToolkitError: it cannot be read, holds none, or holds one that is too short or has blanks in it.
        """
        try:
            lines = [line.strip() for line in read_text(path).splitlines()]
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or "it is no text in UTF-8"
            raise ToolkitError(f"the file of API keys {printable(path)} cannot be read: {said}.") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ToolkitError(f"{printable(path)} holds no API key: write one a line.")
        for key in keys:  # no key is ever quoted
            if len(key) < SHORTEST_KEY or not key.isascii() or any(character.isspace() for character in key):
                raise ToolkitError(
                    f"the API key in line {lines.index(key) + 1} of {printable(path)} is not one: give at least "
                    f"{SHORTEST_KEY} ASCII characters without blanks, e.g. those that 'openssl rand -hex 32' prints."
                )
        return cls(keys)

    def authorize(self, headers: Mapping[str, str]) -> Unauthorized | None:
        """Say why a request is refused; None if it is not.

        Args:
            headers: of the request, or metadata of the call, by names in lower case.
        """
        given = headers.get("x-api-key")
        if given is None and (authorization := headers.get("authorization", "")).lower().startswith(_BEARER):
            given = authorization[len(_BEARER) :].strip()
        if given is None:
            return Unauthorized("this server wants an API key, in the header 'Authorization: Bearer KEY'.")
        digest = _digest(given)
        known = False
        for one in self._digests:
            known |= hmac.compare_digest(one, digest)
        return None if known else Unauthorized("the API key is not known here.")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
