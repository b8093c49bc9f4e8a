"""RandAugment (Cubuk et al. 2020): some operations, drawn at random, of one magnitude.

The operations and their magnitudes are those of torchvision's ``transforms.v2.RandAugment``, on Pillow images. That
class draws from PyTorch's global generator, which threads share; here the generator is an argument.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

MAGNITUDES = 31


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: torchvision's.
        least: its strength at magnitude 0.
        most: its strength at the largest magnitude; of a translation as a share of the side.
        signed: whether it goes both ways.
        apply: takes torchvision's functional operations, a Pillow image and the strength; returns a Pillow image.
    """

    name: str
    least: float
    most: float
    signed: bool
    apply: Callable[[Any, Any, float], Any]

    def strength(self, magnitude: int) -> float:
        """Return its strength at a magnitude from 0 to 30."""
        return _level(self.least, self.most, magnitude)


@functools.cache
def _level(least: float, most: float, magnitude: int) -> float:
    import torch

    return float(torch.linspace(least, most, MAGNITUDES)[magnitude])


def _unchanged(functional: Any, image: Any, strength: float) -> Any:
    return image


def _sheared(functional: Any, image: Any, shear: list[float]) -> Any:
    return functional.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])


def _translated(functional: Any, image: Any, translate: list[int]) -> Any:
    return functional.affine(image, angle=0.0, translate=translate, scale=1.0, shear=[0.0, 0.0])


def _degrees(strength: float) -> float:
    """Return the angle of a shear, whose strength is its tangent."""
    return math.degrees(math.atan(strength))


SHIFTED = 150.0 / 331.0
OPERATIONS = (
    Operation("Identity", 0.0, 0.0, False, _unchanged),
    Operation("ShearX", 0.0, 0.3, True, lambda f, image, by: _sheared(f, image, [_degrees(by), 0.0])),
    Operation("ShearY", 0.0, 0.3, True, lambda f, image, by: _sheared(f, image, [0.0, _degrees(by)])),
    Operation("TranslateX", 0.0, SHIFTED, True, lambda f, image, by: _translated(f, image, [int(by * image.width), 0])),
    Operation(
        "TranslateY", 0.0, SHIFTED, True, lambda f, image, by: _translated(f, image, [0, int(by * image.height)])
    ),
    Operation("Rotate", 0.0, 30.0, True, lambda f, image, by: f.rotate(image, angle=by)),
    Operation("Brightness", 0.0, 0.9, True, lambda f, image, by: f.adjust_brightness(image, 1.0 + by)),
    Operation("Color", 0.0, 0.9, True, lambda f, image, by: f.adjust_saturation(image, 1.0 + by)),
    Operation("Contrast", 0.0, 0.9, True, lambda f, image, by: f.adjust_contrast(image, 1.0 + by)),
    Operation("Sharpness", 0.0, 0.9, True, lambda f, image, by: f.adjust_sharpness(image, 1.0 + by)),
    Operation("Posterize", 8.0, 4.0, False, lambda f, image, by: f.posterize(image, bits=round(by))),
    Operation("Solarize", 1.0, 0.0, False, lambda f, image, by: f.solarize(image, threshold=255.0 * by)),
    Operation("AutoContrast", 0.0, 0.0, False, lambda f, image, by: f.autocontrast(image)),
    Operation("Equalize", 0.0, 0.0, False, lambda f, image, by: f.equalize(image)),
)


def rand_augment(
    image: npt.NDArray[np.uint8], operations: int, magnitude: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Apply operations to an image one after the other.

    What geometric operations bring in from outside the image is black, as in torchvision.

    Args:
        image: uint8 ``[h, w, 3]``; not changed.
        operations: how many; one may be drawn several times.
        magnitude: 0 to 30.
        rng: what is drawn from.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    from torchvision.transforms.v2 import functional

    changed = Image.fromarray(np.ascontiguousarray(image))
    for _ in range(operations):
        operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        strength = operation.strength(magnitude)
        if operation.signed and rng.random() <= 0.5:
            strength = -strength
        changed = operation.apply(functional, changed, strength)
    return np.asarray(changed)
