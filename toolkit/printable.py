"""How names and texts of somebody else are shown, so that they change nothing of what a terminal shows around them.

What comes from the file system is shown escaped; what stands in a file that was parsed is refused (``unprintable``).
"""

from __future__ import annotations

import os
import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible characters that Persian, Indic scripts and emoji cannot be written without."""
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which start the escape sequences of a terminal; separators of lines and paragraphs; what turns
the direction of the text around it (https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters); and halves
of a character."""


def unprintable(text: str, *, lines: bool = False) -> str | None:
    """Return the first character, as ``U+001B``, with which a text could change what a terminal shows around it.

    Args:
        text: what somebody else wrote.
        lines: whether it may have several lines, and tabulators.
    """
    found = (match[0] for match in _UNPRINTABLE.finditer(text))
    return next((f"U+{ord(character):04X}" for character in found if not (lines and character in "\n\t")), None)


def printable(name: str | os.PathLike[str]) -> str:
    r"""Return a path, or a text that holds one, so that it can be printed and stored.

    Nothing in it moves a cursor, hides or reorders text, or ends a line: control characters stand as ``\x1b`` or
    ``\n``, bytes that are not UTF-8 as ``\xNN``.
    """
    text = os.fsdecode(name)
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """Return a text of several lines with everything but its ends of lines and tabs as ``printable`` shows it."""
    return "".join(character if character in "\n\t" else _shown(character) for character in text)


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>]*)")
_AROUND = ").,;:]"
"""What ends the sentence that a URL stands in, and no URL."""
_HOST_AND_PORT = re.compile(r"[^:@/]+:\d{1,5}(?:/|$)")


def without_credentials(text: str) -> str:
    """Return a text in which no URL has a name, a password or a token in it, nor a query, which can hold some.

    A password may hold any character, so what stands between a colon and the last ``@`` goes, a part of the path too
    where that has one.
    """

    def public(match: re.Match[str]) -> str:
        rest = match[2].rstrip(_AROUND)
        return match[1] + _place(rest) + match[2][len(rest) :]

    return _URL.sub(public, text)


def public_url(url: str) -> str:
    """Return a whole URL, which may hold blanks and quotes, as ``without_credentials`` returns those in a text."""
    parts = (part.partition("://") for part in url.split("::"))
    return "::".join(printable(f"{scheme}{mark}{_place(rest)}" if mark else scheme) for scheme, mark, rest in parts)


def _place(after_scheme: str) -> str:
    """Return host and path."""
    authority = after_scheme.partition("/")[0]
    if ":" in authority and not _HOST_AND_PORT.match(after_scheme):
        after_scheme = after_scheme.rpartition("@")[2]
    elif "@" in authority:
        after_scheme = after_scheme[authority.rindex("@") + 1 :]
    return re.split("[?#]", after_scheme, maxsplit=1)[0]


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) in ("Zs", "Co", "Cn"):
        return character
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
