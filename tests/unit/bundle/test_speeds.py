from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.bundle import ArtifactRecord, read_manifest
from toolkit.bundle.manifest import BatchSpeed, BenchSummary
from toolkit.bundle.speeds import speed_table
from toolkit.results import Interval


def summary(fastest: int, speeds: dict[int, float], with_speeds: bool = True) -> BenchSummary:
    return BenchSummary(
        device="cpu",
        processor="Example CPU",
        threads=2,
        batch_size=fastest,
        images_per_second=speeds[fastest],
        images_per_second_interval=Interval(low=1.0, high=2.0),
        latency_batch_size=min(speeds),
        latency_p50_seconds=min(speeds) / speeds[min(speeds)],
        test_accuracy=None,
        measured="2026-01-01",
        speeds=tuple(
            BatchSpeed(batch_size=size, images_per_second=speed, latency_p50_seconds=size / speed)
            for size, speed in speeds.items()
            if with_speeds
        ),
    )


@pytest.fixture
def artifact(colour_bundle: Path) -> ArtifactRecord:
    return read_manifest(colour_bundle).artifacts[0]


def test_each_batch_size_has_its_own_column_whichever_is_the_fastest(artifact: ArtifactRecord) -> None:
    slow = artifact.model_copy(update={"file": "a", "benchmarks": (summary(1, {1: 500.0, 32: 250.0}),)})
    fast = artifact.model_copy(update={"file": "b", "benchmarks": (summary(32, {1: 100.0, 32: 800.0}),)})
    assert speed_table([slow, fast]) == [
        (
            "file",
            "device",
            "threads",
            "ms per call at batch 1",
            "images/s at batch 1",
            "images/s at batch 32",
            "processor",
        ),
        ("a", "cpu", "2", "2.00", "500", "250", "Example CPU"),
        ("b", "cpu", "2", "10.00", "100", "800", "Example CPU"),
    ]


def test_of_an_older_record_what_is_not_known_is_left_open(artifact: ArtifactRecord) -> None:
    old = artifact.model_copy(update={"benchmarks": (summary(32, {1: 100.0, 32: 800.0}, with_speeds=False),)})
    new = artifact.model_copy(update={"benchmarks": (summary(1, {1: 500.0, 32: 250.0}),)})
    assert [row[3:6] for row in speed_table([old, new])[1:]] == [("10.00", "-", "800"), ("2.00", "500", "250")]


def test_nothing_was_measured(artifact: ArtifactRecord) -> None:
    assert speed_table([artifact]) == []
