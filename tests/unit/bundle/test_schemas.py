from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.bundle import Bundle, Manifest
from toolkit.bundle.manifest import SCHEMA_VERSION
from toolkit.bundle.schemas import FOLDER, RECORDS, schema, schema_text
from toolkit.results import Interval

jsonschema = pytest.importorskip(
    "jsonschema", reason="the extra 'dev' of this checkout is older than its schemas: install it again"
)

MANIFEST = f"manifest-v{SCHEMA_VERSION}.json"
ASSETS = Path(__file__).parents[2] / "assets"


def validate(name: str, value: object) -> None:
    jsonschema.Draft202012Validator(schema(name)).validate(value)


@pytest.mark.parametrize("name", RECORDS)
def test_the_published_file_is_what_the_record_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == schema_text(name), (
        "write it again: python -m toolkit.bundle.schemas (or: make schemas)"
    )


def test_there_is_no_other_file() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_it_is_a_valid_schema_that_says_what_its_fields_are(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "description" in schema(name)


def test_what_a_bundle_holds_is_valid(colour_bundle: Path) -> None:
    validate(MANIFEST, json.loads((colour_bundle / "manifest.json").read_bytes()))
    validate("golden.json", json.loads((colour_bundle / "golden" / "expected.json").read_bytes()))


def test_a_real_manifest_with_verdicts_is_valid() -> None:
    validate(MANIFEST, json.loads((ASSETS / "manifests" / f"version-{SCHEMA_VERSION}.json").read_bytes()))


def test_a_manifest_with_a_surprise_is_not(colour_bundle: Path) -> None:
    raw = json.loads((colour_bundle / "manifest.json").read_bytes())
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        validate(MANIFEST, {**raw, "surprise": 1})
    with pytest.raises(jsonschema.ValidationError, match="3 was expected"):
        validate(MANIFEST, {**raw, "schema_version": 1})


def test_measured_values_that_are_not_finite_are_valid_and_others_are_not(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record writes them as strings; a number without bounds in the schema says so."""
    monkeypatch.setitem(RECORDS, "interval.json", Interval)
    validate("interval.json", json.loads(Interval(low=-math.inf, high=math.nan).to_json()))
    with pytest.raises(jsonschema.ValidationError):
        validate("interval.json", {"low": "minus infinity", "high": 1})
    raw = json.loads((colour_bundle / "manifest.json").read_bytes())
    raw["input"]["normalization"]["mean"][0] = "NaN"
    with pytest.raises(jsonschema.ValidationError):
        validate(MANIFEST, raw)


def test_the_command_writes_the_files_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import pathlib, runpy, sys, toolkit.bundle.schemas as schemas\n"
        "schemas.FOLDER = pathlib.Path(sys.argv[1])\n"
        "runpy.run_module('toolkit.bundle.schemas.__main__', run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.glob("*.json")
    }


def test_the_record_is_the_one_that_bundles_are_read_with(colour_bundle: Path) -> None:
    assert RECORDS[MANIFEST] is Manifest
    assert isinstance(Bundle.open(colour_bundle).manifest, RECORDS[MANIFEST])
