from __future__ import annotations

import itertools

import numpy as np
import pytest

from toolkit.bundle.edges import golden_edges


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 64), (4, 4)])
def test_they_are_pixels_of_the_size_and_the_same_every_time(height: int, width: int) -> None:
    names, edges = golden_edges(height, width)
    assert (edges.shape, edges.dtype) == ((len(names), height, width, 3), np.uint8)
    assert len(set(names)) == len(names)
    assert np.array_equal(golden_edges(height, width)[1], edges)


def test_no_exchange_of_channels_no_mirror_and_no_turn_leaves_them_as_they_are() -> None:
    for image in golden_edges(32, 32)[1]:
        for order in itertools.permutations(range(3)):
            if order != (0, 1, 2):
                assert not np.array_equal(image[..., order], image)
        for moved in (image[::-1], image[:, ::-1], image.transpose(1, 0, 2), np.roll(image, 1, axis=1)):
            assert not np.array_equal(moved, image)


def test_they_reach_both_ends_of_every_channel() -> None:
    edges = golden_edges(32, 32)[1]
    assert (edges.min(axis=(1, 2)) <= 2).all()
    assert (edges.max(axis=(1, 2)) >= 253).all()


def test_they_are_few_for_they_are_shipped_with_every_bundle() -> None:
    assert golden_edges(224, 224)[1].nbytes <= 4 * 224 * 224 * 3
