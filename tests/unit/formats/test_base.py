from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from toolkit.bundle.content import Content
from toolkit.formats.base import Exported, ExportRequest, Facts, Format, NotExported


class Inherits(Format):
    name, precision, suffix, family = "inherits", "float32", ".bin", "inherits"

    def unavailable(self) -> str | None:
        return None

    def export(self, *_: object) -> Exported:
        return Exported()

    def facts(self, path: Path) -> Facts:
        return Facts(producer="nobody")

    def open(self, content: Content, device: str, threads: int) -> None:
        return None


def test_a_format_that_inherits_takes_over_what_has_a_default() -> None:
    made = Inherits()
    assert (made.engine, made.calibrates, made.carries_code, made.bisectable, made.narrow_type) == (
        None,
        False,
        True,
        False,
        None,
    )


def test_an_ordinary_artifact_is_one_file_for_any_machine() -> None:
    assert Exported() == Exported(further_files=(), portability="any", kept_float32=(), quantization=None)


@pytest.mark.parametrize("record", [Exported(), NotExported("too coarse"), Facts("x"), ExportRequest("i", ("o",), {})])
def test_what_formats_return_and_are_asked_cannot_be_changed(record: object) -> None:
    with pytest.raises(FrozenInstanceError):
        record.quantization = None  # type: ignore[attr-defined]
