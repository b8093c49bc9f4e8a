"""What every record is: frozen, with a JSON round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from toolkit.errors import RunError
from toolkit.files import printable_lines, read_regular, write_text


class Record(BaseModel):
    """A frozen record.

    Not-a-number and infinity are kept in JSON as strings, so that a diverged result can still be written.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        ser_json_inf_nan="strings",
        use_attribute_docstrings=True,
        protected_namespaces=(),  # before 2.10 pydantic warned of every field named model_...
    )

    def to_json(self) -> str:
        """Return the record as indented JSON, ending in a newline. A name that is not UTF-8 stands in it escaped."""
        try:
            return self.model_dump_json(indent=2) + "\n"
        except PydanticSerializationError:
            return type(self).model_validate(_in_utf8(self.model_dump())).model_dump_json(indent=2) + "\n"

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
            return cls.from_json(read_regular(path))
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
