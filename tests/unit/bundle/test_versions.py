from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import toolkit
from toolkit.bundle import Bundle
from toolkit.bundle.manifest import SCHEMA_VERSION
from toolkit.bundle.trust.check import parse_manifest
from toolkit.bundle.versions import READABLE, upgraded
from toolkit.bundle.writer import write_manifest

ASSETS = Path(__file__).parents[2] / "assets"
MANIFESTS = sorted((ASSETS / "manifests").glob("version-*.json"))


def version(path: Path) -> int:
    return int(re.fullmatch(r"version-(\d+)", path.stem)[1])  # type: ignore[index]  # a file of another name is a mistake in the assets


def test_there_is_a_manifest_of_every_version() -> None:
    assert [version(path) for path in MANIFESTS] == list(READABLE) == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_of_every_version_reads_as_one_of_today(path: Path) -> None:
    raw = json.loads(path.read_bytes())
    assert raw["schema_version"] == version(path)
    manifest = parse_manifest(path.read_bytes(), path)
    assert manifest.schema_version == SCHEMA_VERSION
    assert manifest.labels == tuple("0123456789")
    assert [artifact.format for artifact in manifest.artifacts] == [entry["format"] for entry in raw["artifacts"]]
    for artifact, entry in zip(manifest.artifacts, raw["artifacts"], strict=True):
        assert artifact.parity is not None
        assert artifact.parity.passed
        assert artifact.parity.max_absolute_logits == entry["parity"]["max_absolute_logits"]
        assert artifact.benchmarks[0].images_per_second == entry["benchmarks"][0]["images_per_second"]
    assert manifest.evaluation is not None
    assert sum(sum(row) for row in manifest.evaluation.confusion) == 100


def test_upgrading_changes_nothing_that_was_there() -> None:
    raw = json.loads((ASSETS / "manifests" / "version-1.json").read_bytes())
    before = json.dumps(raw)
    assert {**upgraded(raw), "schema_version": 1} == raw
    assert json.dumps(raw) == before


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A whole bundle as the first version of toolkit wrote it."""
    return Path(shutil.copytree(ASSETS / "bundles" / "version-1", tmp_path / "first"))


def test_a_bundle_of_version_1_opens_predicts_and_tests_itself(
    first: Path, colour_image: Callable[[str], np.ndarray]
) -> None:
    predictor = toolkit.load(first)
    assert [
        prediction.label
        for prediction in predictor.predict([colour_image(label) for label in ("red", "green", "blue")])
    ] == [
        "red",
        "green",
        "blue",
    ]
    tested = predictor.selftest()
    assert tested.passed
    assert tested.tolerance is not None


def test_writing_a_verdict_into_a_bundle_of_version_1_makes_it_one_of_today(first: Path) -> None:
    write_manifest(first, Bundle.open(first).manifest)
    assert json.loads((first / "manifest.json").read_bytes())["schema_version"] == SCHEMA_VERSION
    assert Bundle.open(first).manifest.artifacts[0].tolerance is not None
