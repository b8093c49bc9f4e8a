from __future__ import annotations

from pathlib import Path

import pytest
from bundles import change_weights, judge

from toolkit.batch.record import BatchRecord, model_sha256
from toolkit.bundle import read_manifest


def record(**changes: object) -> BatchRecord:
    return BatchRecord.model_validate(
        {
            "bundle": "colours",
            "model_sha256": "a" * 64,
            "artifact": "onnx",
            "input": "photos",
            "images": 10,
            "input_sha256": "b" * 64,
            "image_column": "path",
            "key_column": None,
            "top": 5,
            "logits": False,
            "part_rows": 4,
            "max_pixels": 100,
            **changes,
        }
    )


def test_the_inputs_are_divided_into_parts() -> None:
    assert record().parts == 3
    assert [record().bounds(part) for part in range(3)] == [(0, 4), (4, 8), (8, 10)]
    assert (record(images=8).parts, record(images=8).bounds(1)) == (2, (4, 8))
    assert record(images=1).parts == 1


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record().save(tmp_path / "record.json")
    again = BatchRecord.from_json((tmp_path / "record.json").read_bytes())
    assert again == record()
    assert again.sha256 == record().sha256 != record(top=4).sha256


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"input": "./photos", "bundle": "renamed"}, None),
        ({"model_sha256": "c" * 64, "images": 9}, "of another model (colours, onnx)"),
        ({"images": 11}, "of other images (10 of photos as it was then; photos has 11 now)"),
        ({"input_sha256": "c" * 64, "input": "new"}, "of other images (10 of photos as it was then; new has 10 now)"),
        ({"top": 3, "logits": True}, "made with other options (top 5, not 3; logits False, not True)"),
        ({"part_rows": 5}, "made with other options (part_rows 4, not 5)"),
        ({"max_pixels": 5}, "made with other options (max_pixels 100, not 5)"),
    ],
)
def test_what_another_job_would_do_otherwise(changes: dict[str, object], said: str | None) -> None:
    assert record().difference(record(**changes)) == said


def test_the_digest_is_of_what_decides_the_numbers(colour_bundle: Path) -> None:
    def digest() -> str:
        manifest = read_manifest(colour_bundle)
        return model_sha256(manifest, manifest.artifacts[0])

    first = digest()
    judge(colour_bundle)  # as 'toolkit verify' does
    assert digest() == first
    manifest = read_manifest(colour_bundle)
    for change in (
        {"labels": ("green", "blue", "red")},
        {"preprocessing": manifest.preprocessing.model_copy(update={"interpolation": "bicubic"})},
    ):
        assert model_sha256(manifest.model_copy(update=change), manifest.artifacts[0]) != first
    change_weights(colour_bundle, lambda weights: weights * 2)
    assert digest() != first
