"""The published JSON Schemas (draft 2020-12) of what toolkit writes, made from the records themselves.

``python -m toolkit.bundle.schemas`` writes the files of this folder again; a test fails where a file and its record
differ.
"""

from __future__ import annotations

import ast
import inspect
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import FloatSchema, ModelSchema

from toolkit.bundle.manifest import SCHEMA_VERSION, Golden, Manifest
from toolkit.bundle.trust.signature import Signature
from toolkit.results import BenchReport, Comparison, ParityReport, Record

FOLDER = Path(__file__).parent
RECORDS: dict[str, type[Record]] = {
    f"manifest-v{SCHEMA_VERSION}.json": Manifest,
    "golden.json": Golden,
    "signature.json": Signature,
    "parity.json": ParityReport,
    "bench.json": BenchReport,
    "comparison.json": Comparison,
}
"""File in this folder to the record it describes."""


class _Generator(GenerateJsonSchema):
    """Says of floating point numbers what ``Record`` writes, and of fields what stands below them in the source.

    A measured value may be not a number or infinite, as a string.
    """

    def float_schema(self, schema: FloatSchema) -> JsonSchemaValue:
        """Return the schema of a number."""
        number = super().float_schema(schema)
        bounded = schema.get("allow_inf_nan") is False or {"ge", "gt", "le", "lt"} & schema.keys()
        return number if bounded else {"anyOf": [number, {"enum": ["NaN", "Infinity", "-Infinity"]}]}

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """Return the schema of a record, with a description of each field that has one."""
        made = super().model_schema(schema)
        fields = made.get("properties", {})
        for name, description in _field_docstrings(schema["cls"]).items():
            fields[name].setdefault("description", description)
        return made


def _field_docstrings(model: type[Any]) -> dict[str, str]:
    """Return what stands below the fields of a record in its source.

    Pydantic can read it (``use_attribute_docstrings``), but then does so whenever a record is imported, which takes a
    service longer than all the rest of that.
    """
    found: dict[str, str] = {}
    for record in reversed(model.__mro__):
        if not issubclass(record, Record):
            continue
        (definition,) = ast.parse(inspect.getsource(record)).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(below):
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return found


def _is_text(statement: ast.stmt) -> TypeGuard[ast.Expr]:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def schema(name: str) -> dict[str, Any]:
    """Return the schema that belongs into a file of this folder."""
    model_schema = RECORDS[name].model_json_schema(schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, **model_schema}


def schema_text(name: str) -> str:
    """Return the content of a file of this folder."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"
