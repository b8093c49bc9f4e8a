"""RandAugment: torchvision's operations at torchvision's magnitudes, from a generator that is given."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2 import RandAugment

from toolkit.data.randaugment import MAGNITUDES, OPERATIONS, rand_augment

IMAGE = np.random.default_rng(0).integers(0, 256, (26, 34, 3), dtype=np.uint8)
IMAGE[0, :2] = [[0], [255]]  # the range that autocontrast makes of an image, so that it leaves this one as it is
SPACE = RandAugment._AUGMENTATION_SPACE
BY_NAME = {operation.name: operation for operation in OPERATIONS}


class Drawing:
    """Draws what it is told, in the place of a generator."""

    def __init__(self, *draws: float) -> None:
        self.draws = list(draws)

    def integers(self, end: int) -> int:
        drawn = self.draws.pop(0)
        assert 0 <= drawn < end
        return int(drawn)

    def random(self) -> float:
        return self.draws.pop(0)


def ours(name: str, magnitude: int, *, negative: bool) -> np.ndarray:
    operation = BY_NAME[name]
    draws = Drawing(OPERATIONS.index(operation), *([0.2 if negative else 0.8] if operation.signed else []))
    changed = rand_augment(IMAGE, 1, magnitude, draws)  # type: ignore[arg-type]
    assert draws.draws == []
    return changed


def theirs(name: str, magnitude: int, *, negative: bool) -> np.ndarray:
    official = RandAugment(magnitude=magnitude)
    levels, signed = SPACE[name]
    strengths = levels(official.num_magnitude_bins, *IMAGE.shape[:2])
    strength = 0.0 if strengths is None else float(strengths[magnitude])
    changed = official._apply_image_or_video_transform(
        Image.fromarray(IMAGE),
        name,
        -strength if signed and negative else strength,
        interpolation=official.interpolation,
        fill=official._fill,
    )
    return np.asarray(changed)


def test_the_operations_are_torchvisions() -> None:
    assert [operation.name for operation in OPERATIONS] == list(SPACE)
    assert [operation.signed for operation in OPERATIONS] == [signed for _, signed in SPACE.values()]
    assert RandAugment().num_magnitude_bins == MAGNITUDES


@pytest.mark.parametrize("name", list(SPACE))
@pytest.mark.parametrize("negative", [False, True])
def test_each_does_what_torchvisions_does_at_every_magnitude(name: str, negative: bool) -> None:
    changed = 0
    for magnitude in range(MAGNITUDES):
        made = ours(name, magnitude, negative=negative)
        np.testing.assert_array_equal(made, theirs(name, magnitude, negative=negative))
        changed += not np.array_equal(made, IMAGE)
    assert changed == 0 if name in ("Identity", "AutoContrast") else changed > 20


def test_operations_come_one_after_the_other() -> None:
    places = {name: OPERATIONS.index(BY_NAME[name]) for name in ("Solarize", "Posterize")}
    first, second = places["Solarize"], places["Posterize"]
    both = rand_augment(IMAGE, 2, 12, Drawing(first, second))  # type: ignore[arg-type]
    solarized = rand_augment(IMAGE, 1, 12, Drawing(first))  # type: ignore[arg-type]
    one_by_one = rand_augment(solarized, 1, 12, Drawing(second))  # type: ignore[arg-type]
    np.testing.assert_array_equal(both, one_by_one)
    np.testing.assert_array_equal(rand_augment(IMAGE, 0, 9, Drawing()), IMAGE)  # type: ignore[arg-type]


def test_all_of_them_are_drawn_both_ways() -> None:
    found = {rand_augment(IMAGE, 1, 20, np.random.default_rng(seed)).tobytes() for seed in range(400)}
    signed = sum(operation.signed for operation in OPERATIONS)
    assert len(found) == 2 * signed + (len(OPERATIONS) - signed) - 1


def test_the_input_is_not_changed() -> None:
    before = IMAGE.copy()
    for operation in range(len(OPERATIONS)):
        rand_augment(IMAGE, 1, 30, Drawing(operation, 0.1))  # type: ignore[arg-type]
    np.testing.assert_array_equal(IMAGE, before)
