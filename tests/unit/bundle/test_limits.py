from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.bundle import ArtifactRecord, read_manifest
from toolkit.bundle.limits import limits_of
from toolkit.compare.tolerances import TOLERANCES


@pytest.fixture
def artifact(colour_bundle: Path) -> ArtifactRecord:
    return read_manifest(colour_bundle).artifacts[0]


def test_an_artifact_of_today_is_held_to_the_table(artifact: ArtifactRecord) -> None:
    limits = limits_of(artifact, "float32")
    assert limits.tolerance == TOLERANCES["float32"]
    assert limits.notes == ()


def test_an_artifact_of_before_tolerances_too(artifact: ArtifactRecord) -> None:
    assert limits_of(artifact.model_copy(update={"tolerance": None}), "float32").tolerance == TOLERANCES["float32"]


def test_what_a_manifest_calls_a_file_does_not_decide(artifact: ArtifactRecord) -> None:
    claimed = artifact.model_copy(update={"precision": "int8", "tolerance": TOLERANCES["int8"]})
    limits = limits_of(claimed, "float32")
    assert limits.tolerance.logits_relative == TOLERANCES["float32"].logits_relative
    assert limits.tolerance.top1_agreement == TOLERANCES["int8"].top1_agreement
    assert limits.notes[0] == (
        "the manifest says that it is int8, and onnx artifacts are float32: it was held to what float32 allows"
    )
