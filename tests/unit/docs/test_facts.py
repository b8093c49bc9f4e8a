"""What the pages say of the code is what the code says."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import get_args

import pytest
from pages import ROOT, rows, text_of

from toolkit.bundle.manifest import (
    ArtifactRecord,
    Golden,
    GoldenCase,
    InputContract,
    Manifest,
    OutputContract,
    RefusedArtifact,
)
from toolkit.bundle.trust.signature import Signature
from toolkit.compare.tolerances import TOLERANCES
from toolkit.preprocess import Preprocessing
from toolkit.recipe import Recipe
from toolkit.results import Record, Tolerance


def number(cell: str) -> float | None:
    return None if cell == "not judged" else float(Fraction(cell))


def test_the_table_of_tolerances_is_that_of_the_code() -> None:
    table = {first.strip("`"): cells for first, *cells in rows(text_of("docs/verify.md")) if first.startswith("`")}
    assert table.keys() == Tolerance.model_fields.keys() - {"precision"}
    for column, precision in enumerate(("float32", "float16", "bfloat16", "int8")):
        for field, cells in table.items():
            assert number(cells[column]) == getattr(TOLERANCES[precision], field), (precision, field)


def test_every_check_of_verify_is_explained() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "toolkit/verify").rglob("*.py")))
    named = set(re.findall(r'\bcheck\("([a-z \-]+)"', source)) | set(
        re.findall(r'\bCheck\(\s*name="([a-z \-]+)"', source)
    )
    named -= {"parity"}  # what JUnit calls a report of an older version, which has no checks
    assert {"outputs", "batch sizes", "threads", "preprocessing", "labels"} <= named
    assert named <= {first for first, *_ in rows(text_of("docs/verify.md"))}


@pytest.mark.parametrize(
    "record", [Manifest, ArtifactRecord, RefusedArtifact, InputContract, OutputContract, Golden, GoldenCase, Signature]
)
def test_the_specification_names_every_field(record: type[Record]) -> None:
    text = text_of("docs/bundle.md")
    assert [name for name in record.model_fields if f"`{name}`" not in text] == []


def test_the_specification_has_every_decision_of_preprocessing() -> None:
    table = {first.strip("`"): cells for first, *cells in rows(text_of("docs/bundle.md")) if first.startswith("`")}
    for name, field in Preprocessing.model_fields.items():
        if name in ("height", "width"):
            continue
        values = get_args(field.annotation)
        assert [value for value in values if f"`{value}`" not in table[name][0]] == [], name


@pytest.mark.parametrize("format_name", ["onnx", "onnx-int8", "onnx-fp16", "torchscript", "openvino", "pt2", "aoti"])
def test_every_format_is_described(format_name: str) -> None:
    assert any(f"`{format_name}`" in first for first, *_ in rows(text_of("docs/formats.md")))


def test_the_sections_of_a_recipe_are_listed() -> None:
    said, _, _ = text_of("docs/your-images.md").partition("with the sections ")[2].partition(". ")
    alone = {"name", "description", "seed"}
    assert re.findall(r"`(\w+)`", said) == [name for name in Recipe.model_fields if name not in alone]
