from __future__ import annotations

import numpy as np
import pytest

from toolkit.errors import RecipeError
from toolkit.verify.inputs import BATCH_SIZES, batches, draw, edge_inputs, make_inputs


def test_edge_inputs_are_what_their_names_say() -> None:
    names, images = edge_inputs(5, 8, seed=0)
    assert images.dtype == np.uint8
    assert images.shape == (len(names), 5, 8, 3)
    assert len(set(names)) == len(names)
    by_name = dict(zip(names, images, strict=True))
    assert (by_name["edge/zeros"] == 0).all()
    assert (by_name["edge/full"] == 255).all()
    lit = {
        name.removeprefix("edge/impulse-"): np.argwhere(image).tolist()
        for name, image in by_name.items()
        if "impulse" in name
    }
    white = {"top-left": (0, 0), "top-right": (0, 7), "bottom-left": (4, 0), "bottom-right": (4, 7), "centre": (2, 4)}
    colours = {"red": [[2, 4, 0]], "green": [[2, 4, 1]], "blue": [[2, 4, 2]]}
    assert (
        lit
        == {name: [[row, column, channel] for channel in range(3)] for name, (row, column) in white.items()} | colours
    )
    assert by_name["edge/gradient-down"][:, 3, 1].tolist() == [0, 64, 128, 191, 255]
    assert by_name["edge/gradient-across"][2, [0, -1], 0].tolist() == [0, 255]


def test_noise_depends_on_the_seed_alone() -> None:
    first, again, other = (edge_inputs(4, 4, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    noise = edge_inputs(4, 4, 1)[1][2:8]
    assert len({image.tobytes() for image in noise}) == 6


def test_draw_takes_classes_in_turn() -> None:
    targets = np.repeat(np.arange(4), [50, 50, 50, 2])
    drawn = draw(targets, 32, seed=3)
    assert len(set(drawn.tolist())) == 32
    assert np.bincount(targets[drawn]).tolist() == [10, 10, 10, 2]
    assert sorted(targets[drawn[:4]].tolist()) == [0, 1, 2, 3]
    assert np.array_equal(drawn, draw(targets, 32, seed=3))
    assert not np.array_equal(drawn, draw(targets, 32, seed=4))


def test_draw_takes_all_where_there_are_fewer() -> None:
    assert sorted(draw(np.array([0, 1, 1]), 256, seed=0).tolist()) == [0, 1, 2]


def test_draw_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="0 test images prove nothing"):
        draw(np.array([0, 1]), 0, seed=0)


def test_every_input_is_in_a_batch_of_32_and_every_edge_in_all_sizes() -> None:
    made = list(batches(200, 20))
    by_size = {size: [batch.rows for batch in made if batch.batch_size == size] for size in BATCH_SIZES}
    assert BATCH_SIZES == (1, 2, 3, 7, 32, 128)
    limits = {1: 16, 2: 16, 3: 24, 7: 28, 32: 200, 128: 110}
    for size, groups in by_size.items():
        assert sorted(row for rows in groups for row in rows) == [*range(limits[size]), *range(200, 220)]
        assert {len(rows) for rows in groups[:-1]} <= {size}
        assert 1 <= len(groups[-1]) <= size


def test_sizes_come_in_the_order_that_is_asked_for() -> None:
    assert [batch.batch_size for batch in batches(3, 0, (32, 2))] == [32, 2, 2]


def test_few_inputs_are_repeated_to_fill_the_largest_batch() -> None:
    (largest,) = [batch for batch in batches(2, 3) if batch.batch_size == 32]
    assert len(largest.rows) == 32
    assert set(largest.rows) == {0, 1, 2, 3, 4}


def test_edge_inputs_follow_the_test_images() -> None:
    images = np.full((2, 6, 7, 3), 9, np.uint8)
    inputs = make_inputs(("test/0", "test/1"), images, seed=0, targets=np.array([1, 0]))
    assert inputs.targets is not None
    assert inputs.names[:3] == ("test/0", "test/1", "edge/zeros")
    assert inputs.images.shape == (len(inputs.names), 6, 7, 3)
    assert (inputs.test_images, inputs.edge_inputs) == (2, len(inputs.names) - 2)
