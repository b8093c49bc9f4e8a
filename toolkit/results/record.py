"""What every record is: frozen, with a JSON round trip."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from toolkit.errors import RunError
from toolkit.files import read_regular, write_text
from toolkit.printable import printable, printable_lines, unprintable

_ROW_OF_NUMBERS = re.compile(r"\[\n[\s\d.,eE+-]+\]")
"""In indented JSON, where only what stands between values is on a new line."""
_WRITTEN = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))|[^\n\x20-\x7e]")
"""Each escape and each character beyond ASCII in the text of JSON."""
_building = threading.RLock()
"""Held by whoever builds a record, and while a process is forked: the child must not inherit a half-built one."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_building.acquire, after_in_parent=_building.release, after_in_child=_building.release)


class Record(BaseModel):
    """A frozen record.

    Not-a-number and infinity are kept in JSON as strings, so that a diverged result can still be written.

    What reads and writes a record is built when it is first used: to build all of them takes as long as everything
    else that a service imports.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        ser_json_inf_nan="strings",
        defer_build=True,
        protected_namespaces=(),  # before 2.10 pydantic warned of every field named model_...
    )

    @classmethod
    def model_rebuild(
        cls,
        *,
        force: bool = False,
        raise_errors: bool = True,
        _parent_namespace_depth: int = 2,
        _types_namespace: Any = None,
    ) -> bool | None:
        """Build what reads and writes the record, see pydantic; whoever uses it first comes here, one at a time.

        Two threads that build the same one at once get the reader of its base class, which knows no field:
        https://github.com/pydantic/pydantic/pull/13438.
        """
        with _building:
            return super().model_rebuild(
                force=force,
                raise_errors=raise_errors,
                _parent_namespace_depth=_parent_namespace_depth + 1,
                _types_namespace=_types_namespace,
            )

    def to_json(self) -> str:
        """Return the record as indented JSON, ending in a newline.

        Arrays of numbers stand on one line each. Characters that could change what a terminal shows around them, and
        bytes that are not UTF-8, in names of files for instance, are written out (see ``errors.visible``).
        """
        try:
            text = self.model_dump_json(indent=2)
        except PydanticSerializationError:
            text = type(self).model_validate(_in_utf8(self.model_dump())).model_dump_json(indent=2)
        text = _ROW_OF_NUMBERS.sub(lambda match: "".join(match[0].split()), text)
        return _WRITTEN.sub(_written_out, text) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse what ``to_json`` wrote.

        Raises:
            pydantic.ValidationError: the text is not such a record.
        """
        return cls.model_validate_json(text)

    def save(self, path: Path) -> None:
        """Write the record as JSON, atomically."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path, made_by: str) -> Self:
        """Read a record from a run folder; ``made_by`` is the command that writes it, named in the error.

        Raises:
            RunError: the file is missing or is not such a record.
        """
        try:
            content = read_regular(path)
            if found := _marked(content.decode(errors="replace")):
                raise RunError(
                    f"{path} is not what '{made_by}' writes (it holds the character {found}, which could change what a "
                    f"terminal shows): run '{made_by}' again."
                )
            return cls.from_json(content)
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error.strerror}): run '{made_by}' first.") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise RunError(
                f"{path} is not what '{made_by}' writes ({where}: {first['msg']}): run '{made_by}' again."
            ) from error


def _in_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else printable_lines(value)
    if isinstance(value, dict):
        return {_in_utf8(key): _in_utf8(inner) for key, inner in value.items()}
    return type(value)(map(_in_utf8, value)) if isinstance(value, list | tuple) else value


class Interval(Record):
    """A two-sided interval."""

    low: float
    high: float
    level: float = 0.95
    """Confidence level, between 0 and 1."""


def _character(written: re.Match[str]) -> str:
    """Return the character; a half of one, which makes sense with the other half only, is none."""
    if written[1] is not None:
        number = int(written[1], 16)
        return "" if 0xD800 <= number < 0xE000 else chr(number)
    return written[0] if written[2] is None else {"b": "\b", "f": "\f", "r": "\r"}.get(written[2], "")


def _written_out(written: re.Match[str]) -> str:
    """Return what says which character it is, for one that must not reach a terminal."""
    character = _character(written)
    return printable(character).replace("\\", "\\\\") if unprintable(character, lines=True) else written[0]


def _marked(text: str) -> str | None:
    """Return the first character in the text of JSON that must not reach a terminal, plain or as an escape."""
    found = (unprintable(_character(written), lines=True) for written in _WRITTEN.finditer(text))
    return next((marked for marked in found if marked), None)
