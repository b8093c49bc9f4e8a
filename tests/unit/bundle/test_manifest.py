from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from toolkit.bundle import Manifest, read_manifest
from toolkit.bundle.manifest import ArtifactRecord, FileRecord, Golden, GoldenCase, InputContract, Normalization

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
PIXELS = np.array([[[[0, 255, 51], [255, 0, 102]]]], np.uint8)
"""One image of one row and two columns."""


def contract(in_graph: bool) -> InputContract:
    return InputContract(
        name="images",
        dtype="uint8" if in_graph else "float32",
        shape=("N", 1, 2, 3) if in_graph else ("N", 3, 1, 2),
        normalization=Normalization(mean=MEAN, std=STD),
        normalization_in_graph=in_graph,
    )


def test_pixels_go_in_as_they_are_where_the_graph_normalises() -> None:
    assert contract(in_graph=True).encode(PIXELS) is PIXELS


def test_the_classic_tensor_is_normalised_with_channels_first() -> None:
    encoded = contract(in_graph=False).encode(PIXELS)
    assert encoded.dtype == np.float32
    assert encoded.flags.c_contiguous
    expected = [[[-1.0, 1.0]], [[3.0, -1.0]], [[0.2, 0.4]]]
    np.testing.assert_allclose(encoded, [expected], rtol=1e-6)


def artifact(**changes: Any) -> ArtifactRecord:
    fields: dict[str, Any] = {
        "format": "openvino",
        "precision": "float32",
        "file": "model.xml",
        "sha256": "a" * 64,
        "size_bytes": 10,
        "opset": None,
        "ir_version": None,
        "producer": "test",
        "further_files": {"model.bin": FileRecord(sha256="b" * 64, size_bytes=32)},
    }
    return ArtifactRecord(**{**fields, **changes})


def test_an_artifact_is_all_of_its_files() -> None:
    assert artifact().total_bytes == 42
    assert artifact().all_files == {
        "model.xml": FileRecord(sha256="a" * 64, size_bytes=10),
        "model.bin": FileRecord(sha256="b" * 64, size_bytes=32),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("sha256", "A" * 64), ("sha256", "a" * 63), ("size_bytes", -1), ("size_bytes", 2**33), ("portability", "often")],
)
def test_a_record_of_a_file_that_cannot_be_one(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        artifact(**{field: value})


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_nothing_is_divided_by_what_is_no_deviation(std: float) -> None:
    with pytest.raises(ValidationError, match="std"):
        Normalization(mean=MEAN, std=(1.0, 1.0, std))


def test_a_manifest_that_contradicts_itself_is_refused(
    colour_bundle: Path, colour_manifest: Callable[[Path], Manifest]
) -> None:
    fields = colour_manifest(colour_bundle).model_dump()
    Manifest.model_validate(fields)
    with pytest.raises(ValidationError, match=r"the input has the shape .*8, 9, 3.*, preprocessing makes .*8, 8, 3"):
        Manifest.model_validate({**fields, "input": {**fields["input"], "shape": ("N", 8, 9, 3)}})
    with pytest.raises(ValidationError, match=r"the output logits has the shape .*, but there are 2 labels"):
        Manifest.model_validate({**fields, "labels": ("blue", "green")})
    with pytest.raises(ValidationError, match="labels"):
        Manifest.model_validate({**fields, "labels": ()})
    with pytest.raises(ValidationError, match="schema_version"):
        Manifest.model_validate({**fields, "schema_version": 4})


def test_it_is_read_as_it_was_written(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_golden_samples_have_a_value_per_label() -> None:
    case = GoldenCase(file="golden/000.bin", source="a", true_label=None, logits=(1.0, 2.0), probabilities=(0.3, 0.7))
    Golden(height=1, width=1, labels=("a", "b"), cases=(case,))
    with pytest.raises(ValidationError, match=r"golden/000\.bin has 2 logits, 2 probabilities, 3 labels"):
        Golden(height=1, width=1, labels=("a", "b", "c"), cases=(case,))
    with pytest.raises(ValidationError, match="cases"):
        Golden(height=1, width=1, labels=("a", "b"), cases=())
    with pytest.raises(ValidationError, match="finite"):
        GoldenCase(file="f", source="a", true_label=None, logits=(float("nan"),), probabilities=(1.0,))
