"""Fetching one file: checked, retried, cleaned up, and never in place before it is whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import platformdirs

from toolkit.errors import DownloadError
from toolkit.files import atomic_path, expanded, open_regular
from toolkit.progress import Reporter

_CHUNK_BYTES = 1 << 18
_SOCKET_TIMEOUT_SECONDS = 30.0
_WORTH_A_RETRY = frozenset({408, 425, 429})
_NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)
_SHORTEST_PREFIX = 8


@dataclass(frozen=True)
class Digest:
    """What the content of a file must hash to.

    Attributes:
        algorithm: ``md5`` or ``sha256``.
        hex: the digest, or its first digits (at least 8), as in the file names of PyTorch's model zoo.
    """

    algorithm: Literal["md5", "sha256"]
    hex: str

    def __post_init__(self) -> None:
        digits = hashlib.new(self.algorithm, usedforsecurity=False).digest_size * 2
        if not _SHORTEST_PREFIX <= len(self.hex) <= digits or not set(self.hex.lower()) <= set("0123456789abcdef"):
            raise ValueError(
                f"{self.hex!r} is no {self.algorithm} digest: give {_SHORTEST_PREFIX} to {digits} hexadecimal digits"
            )

    def matches(self, path: Path) -> bool:
        """Tell whether a file has this digest; False if it cannot be read."""
        try:
            with open_regular(path) as file:
                return self.agrees(hashlib.file_digest(file, self._new).hexdigest())
        except OSError:
            return False

    def agrees(self, digest: str) -> bool:
        """Tell whether a full hexadecimal digest is this one or starts with it."""
        return digest.startswith(self.hex.lower())

    def _new(self) -> hashlib._Hash:
        return hashlib.new(self.algorithm, usedforsecurity=False)


def cache_folder() -> Path:
    """Return the folder for files that can be fetched again.

    ``$TOOLKIT_CACHE``, or ``toolkit`` in the user's cache folder as the platform has it (on Linux ``$XDG_CACHE_HOME``
    or ``~/.cache``). It need not exist.
    """
    chosen = os.environ.get("TOOLKIT_CACHE")
    if chosen:
        return expanded(chosen)
    # Without these two Windows would get toolkit\toolkit\Cache.
    return platformdirs.user_cache_path("toolkit", appauthor=False, opinion=False)


def probe(url: str, timeout: float = 5.0) -> str | None:
    """Find out whether a host answers for a file.

    Args:
        url: the file.
        timeout: seconds after which the answer is given, also where looking up the name or connecting hangs.

    Returns:
        None if it does, else the reason in a few words.
    """
    answers: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
                answers.append(None)
        except _NETWORK_ERRORS as error:
            answers.append(_reason(error))

    # The socket's timeout does not cover the name look-up, which can hang for a minute: the thread is left behind then.
    asking = threading.Thread(target=ask, daemon=True, name="toolkit-probe")
    asking.start()
    asking.join(timeout)
    return answers[0] if answers else f"no answer within {timeout:g} s"


def fetch(
    url: str,
    target: Path,
    *,
    digest: Digest,
    reporter: Reporter,
    attempts: int = 3,
    by_hand: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Make sure that ``target`` is the file at ``url``.

    A file with the right digest is taken as it is, without network. One with another digest is fetched again and
    replaced only when the new one is whole and right.

    Args:
        url: where to fetch from.
        target: where the file belongs; folders are made.
        digest: what it must hash to.
        reporter: shows a bar in bytes, and a line per failed attempt.
        attempts: how often to try. An answer that cannot change (such as 404) is not asked for again.
        by_hand: what a person can do where it fails; the default says where to put a copy.
        sleep: waits between attempts, in seconds.

    Returns:
        ``target``.

    Raises:
        DownloadError: all attempts failed; names the file, the reason and the way by hand.
        FileWriteError: the file cannot be written.
    """
    if target.is_file():
        if digest.matches(target):
            return target
        reporter.line(f"{target} does not have the {digest.algorithm} digest {digest.hex}: downloading it again")
    for attempt in range(1, attempts + 1):
        try:
            _fetch_once(url, target, digest, reporter)
        except _BrokenError as broken:
            if broken.final or attempt == attempts:
                advice = by_hand or f"Download it by hand and put it at {target}."
                tries = f" ({attempt} attempts)" if attempt > 1 else ""
                raise DownloadError(f"cannot download {url}: {broken}{tries}. {advice}") from broken
            pause = 2.0 ** (attempt - 1)
            reporter.line(f"download of {url} failed: {broken}; attempt {attempt + 1} of {attempts} in {pause:g} s")
            sleep(pause)
        else:
            break
    return target


class _BrokenError(Exception):
    """One attempt failed; ``final`` if another would fail in the same way."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def _fetch_once(url: str, target: Path, digest: Digest, reporter: Reporter) -> None:
    try:
        response = urllib.request.urlopen(url, timeout=_SOCKET_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            raise _BrokenError(
                _reason(error), final=400 <= error.code < 500 and error.code not in _WORTH_A_RETRY
            ) from error
    except _NETWORK_ERRORS as error:
        raise _BrokenError(_reason(error)) from error
    with response, atomic_path(target) as temporary:
        with temporary.open("wb") as file:
            actual = _copy(response, file, f"downloading {target.name}", digest.algorithm, reporter)
        if not digest.agrees(actual):
            raise _BrokenError(f"the {digest.algorithm} digest of what arrived is {actual}, expected {digest.hex}")


def _copy(
    response: http.client.HTTPResponse, file: BinaryIO, description: str, algorithm: str, reporter: Reporter
) -> str:
    length = response.headers.get("Content-Length", "")
    expected = int(length) if length.isdecimal() else None
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    received = 0
    with reporter.bar(description, expected or 0, unit="B") as bar:
        while True:
            try:
                chunk = response.read(_CHUNK_BYTES)
            except _NETWORK_ERRORS as error:
                raise _BrokenError(f"the connection broke after {received} bytes ({_reason(error)})") from error
            if not chunk:
                break
            file.write(chunk)
            hasher.update(chunk)
            received += len(chunk)
            bar.advance(len(chunk))
    if expected is not None and received != expected:
        raise _BrokenError(f"the connection broke after {received} of {expected} bytes")
    return hasher.hexdigest()


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
