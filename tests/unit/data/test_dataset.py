"""The fingerprint notices every byte and every label, and their order."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.data.dataset import Dataset, split_of_arrays

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
LABELS = ("a", "b")


def fingerprint(images: np.ndarray, targets: list[int], labels: tuple[str, ...] = LABELS) -> str:
    return split_of_arrays("test", images, np.array(targets), tuple("wxyz"), labels).fingerprint


def test_fingerprint_of_the_same_is_the_same() -> None:
    assert fingerprint(IMAGES, [0, 1, 0, 1]) == fingerprint(IMAGES.copy(), [0, 1, 0, 1])


def test_fingerprint_changes_with_a_byte_a_label_the_order_and_the_shape() -> None:
    changed = IMAGES.copy()
    changed[2, 3, 3, 1] ^= 1
    prints = {
        fingerprint(IMAGES, [0, 1, 0, 1]),
        fingerprint(changed, [0, 1, 0, 1]),
        fingerprint(IMAGES, [0, 1, 1, 1]),
        fingerprint(IMAGES[[1, 0, 2, 3]], [0, 1, 0, 1]),
        fingerprint(IMAGES.reshape(4, 3, 12, 3), [0, 1, 0, 1]),
        fingerprint(IMAGES, [0, 1, 0, 1], ("a", "c")),
    }
    assert len(prints) == 6


def test_a_split_that_was_not_asked_for() -> None:
    with pytest.raises(KeyError, match="test"):
        Dataset("digits", LABELS, {}).split("test")
