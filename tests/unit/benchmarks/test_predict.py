"""The sides give the same answers on real files, and each claim can be missed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import toolkit
from benchmarks import predict as module
from benchmarks.harness.bare import open_bare
from benchmarks.harness.pictures import PHOTOGRAPHS, SMALL, write_pictures
from benchmarks.predict import FLOOR, LOOP, OURS, Measured, Turn, claims, measure, ratios, table
from toolkit.preprocess import DECODE_RULES, Preprocessing, prepare


def turns(*images_per_second: float) -> list[Turn]:
    return [Turn(value, 0.001) for value in images_per_second]


def found(ours: float, against_loop: float) -> dict[str, Measured]:
    """Three rounds on both kinds of files; the floor makes 1,000 images a second, the loop 10."""
    return {
        SMALL: {LOOP: turns(10, 10, 10), FLOOR: turns(1000, 1000, 1000), OURS: turns(ours, 0.5 * ours, 1.5 * ours)},
        PHOTOGRAPHS: {LOOP: turns(10, 10, 10), FLOOR: turns(50, 50, 50), OURS: turns(*[10 * against_loop] * 3)},
    }


@pytest.mark.parametrize(
    ("ours", "against_loop", "met"),
    [(950, 5.0, [True, True]), (949, 5.0, [False, True]), (2000, 4.99, [True, False])],
)
def test_each_claim_can_be_met_and_missed(ours: float, against_loop: float, met: list[bool]) -> None:
    assert [claim.met for claim in claims(found(ours, against_loop))] == met


def test_the_table_has_a_row_for_each_side() -> None:
    rows = table(found(980, 2.0)).rows
    assert [row[:2] for row in rows] == [
        (files, side) for files in (SMALL, PHOTOGRAPHS) for side in (LOOP, FLOOR, OURS)
    ]
    assert rows[2] == (SMALL, OURS, "980.0 (490.0 to 1470.0)", "98.00 (49.00 to 147.00)", "1.00")


def test_ratios_are_those_of_one_round() -> None:
    assert ratios({"a": turns(10, 40), "b": turns(10, 20)}, "a", "b") == [1.0, 2.0]


def test_large_pictures_are_decoded_at_the_scale_that_the_bundle_says(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path / "large", (300, 200), 1)
    sizes = {"height": 40, "width": 40, "resize": "squash", "interpolation": "bilinear"}
    reduced = Preprocessing(**sizes, decode=DECODE_RULES["reduced"])
    assert np.array_equal(module.decoded_reduced(path, 40), prepare(path, reduced))
    assert np.array_equal(module.decoded(path, 40), prepare(path, Preprocessing(**sizes)))
    assert not np.array_equal(module.decoded(path, 40), module.decoded_reduced(path, 40))


def test_all_sides_give_the_same_answers(colour_bundle: Path, tmp_path: Path) -> None:
    model, paths = colour_bundle / "model.onnx", write_pictures(tmp_path / "small", (12, 12), 70)
    with ThreadPoolExecutor(2) as pool, toolkit.load(colour_bundle, threads=2) as predictor:
        sides = {
            LOOP: partial(module.loop, open_bare(model, 1), 8),
            FLOOR: partial(module.floor, open_bare(model, 1), pool, 8),
            OURS: partial(module.predict, predictor, None),
            "batches of 3": partial(module.predict, predictor, 3),
        }
        measured = measure(sides, paths, rounds=2)
    assert {side: len(values) for side, values in measured.items()} == dict.fromkeys(sides, 2)
    assert all(turn.images_per_second > 0 for values in measured.values() for turn in values)
