"""The sides give the same answers on real files, a side that does not is noticed, and each claim can be missed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toolkit
from benchmarks import predict as module
from benchmarks.harness.errors import BenchmarkError
from benchmarks.predict import (
    FLOOR,
    LOOP,
    OURS,
    PHOTOGRAPHS,
    SMALL,
    Measured,
    Turn,
    claims,
    measure,
    open_bare,
    ratios,
    require_same,
    table,
    write_pictures,
)


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


def test_pictures_have_their_size_and_are_not_alike(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "small", (32, 32), 3)
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (32, 32)
    assert len({path.read_bytes() for path in paths}) == 3


def test_all_sides_give_the_same_answers(colour_bundle: Path, tmp_path: Path) -> None:
    model, paths = colour_bundle / "model.onnx", write_pictures(tmp_path / "small", (32, 32), 70)
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


def test_a_side_with_other_answers_is_noticed(tmp_path: Path) -> None:
    right = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    require_same("same", right, right + np.float32(0.001))
    for wrong in (right[::-1], right[:1], right + np.float32(0.1), np.full_like(right, np.nan)):
        with pytest.raises(BenchmarkError, match="the side 'other' does not give the answers"):
            require_same("other", right, wrong)
    with pytest.raises(BenchmarkError, match="every image gets the same answer"):
        require_same("other", np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))


def test_a_session_sleeps_where_its_threads_are_said(colour_bundle: Path) -> None:
    said = open_bare(colour_bundle / "model.onnx", 1).get_session_options()
    assert said.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert said.intra_op_num_threads == 1
