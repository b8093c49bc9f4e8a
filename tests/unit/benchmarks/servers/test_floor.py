"""Every shape of the floor gives the answers of ``Predictor``, and no connection count is given more than it has."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toolkit
from benchmarks.harness.pictures import write_pictures
from benchmarks.servers.floor import Floor, Shape, decoded, shapes
from toolkit.preprocess import DECODE_RULES, Preprocessing, prepare


@pytest.mark.parametrize("shape", [Shape(1, 1, ahead=False), Shape(1, 2), Shape(3, 1), Shape(3, 2)], ids=str)
def test_every_shape_gives_the_answers_of_the_predictor(colour_bundle: Path, tmp_path: Path, shape: Shape) -> None:
    files = [path.read_bytes() for path in write_pictures(tmp_path / "small", (15, 15), 7)]
    expected = [one.probabilities for one in toolkit.load(colour_bundle, threads=1).predict(files)]
    done = Floor(colour_bundle / "model.onnx", 8, 2).run(files, shape, 0.05)
    assert len(done.rows) >= shape.batch
    assert {index for index, _ in done.rows} >= set(range(min(7, len(done.rows))))
    for index, row in done.rows:
        np.testing.assert_allclose(row, expected[index], atol=1e-5)
    assert done.seconds >= 0.05
    assert done.processor_seconds > 0


@pytest.mark.parametrize("size", [(32, 32), (600, 401), (1300, 1024)])
def test_pictures_are_decoded_as_the_bundle_says(size: tuple[int, int]) -> None:
    pre = Preprocessing.model_validate(
        {"height": 64, "width": 64, "resize": "squash", "interpolation": "bilinear", "decode": DECODE_RULES["reduced"]}
    )
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG")
    np.testing.assert_array_equal(decoded(stream.getvalue(), 64), prepare(stream.getvalue(), pre))


def test_one_connection_has_one_picture_at_a_time() -> None:
    assert shapes(1, 4) == [Shape(1, 1, ahead=False)]


@pytest.mark.parametrize("connections", [2, 8, 64, 256])
def test_no_more_pictures_are_computed_than_there_are_connections(connections: int) -> None:
    found = shapes(connections, 2)
    assert found
    assert all(shape.batch * shape.streams <= connections for shape in found)
    assert (Shape(32, 2) in found) == (connections >= 64)
