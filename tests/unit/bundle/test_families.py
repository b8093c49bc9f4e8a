from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.bundle.families import OLDER, with_family
from toolkit.bundle.manifest import ArtifactRecord
from toolkit.bundle.trust.check import parse_manifest
from toolkit.formats.registry import OWN

MANIFESTS = Path(__file__).parents[2] / "assets" / "manifests"
ENTRY = {
    "precision": "float32",
    "file": "model",
    "sha256": "0" * 64,
    "size_bytes": 1,
    "opset": None,
    "ir_version": None,
    "producer": "test",
}


@pytest.mark.parametrize("version", [1, 2])
def test_artifacts_of_an_older_manifest_say_what_they_are(version: int) -> None:
    path = MANIFESTS / f"version-{version}.json"
    assert "family" not in json.loads(path.read_bytes())["artifacts"][0]
    artifacts = parse_manifest(path.read_bytes(), path).artifacts
    assert [(artifact.family, artifact.engine) for artifact in artifacts] == [
        ("torchscript", "torch"),
        ("onnx", "onnxruntime"),
    ]


@pytest.mark.parametrize("own", OWN, ids=lambda own: own.name)
def test_what_older_manifests_mean_is_what_the_formats_still_say(own: type) -> None:
    record = ArtifactRecord(format=own.name, **ENTRY)
    assert (record.family, record.engine) == (own.family, own.engine) == OLDER[own.name]


def test_of_a_format_that_nobody_knows_the_family_is_its_name() -> None:
    record = ArtifactRecord(format="theirs", **ENTRY)
    assert (record.family, record.engine) == ("theirs", None)


def test_what_an_artifact_says_is_kept() -> None:
    record = ArtifactRecord(format="onnx", family="other", engine="another", **ENTRY)
    assert (record.family, record.engine) == ("other", "another")
    assert ArtifactRecord.from_json(record.to_json()) == record


def test_an_entry_without_a_format_is_left_to_the_record() -> None:
    assert with_family({"file": "model"}) == {"file": "model"}
    assert with_family({"format": 3}) == {"format": 3}
