"""Pictures that are made, as JPEG files, of the sizes that benchmarks use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SMALL, PHOTOGRAPHS = "32 x 32", "4000 x 3000"
SIZES = {SMALL: (32, 32), PHOTOGRAPHS: (4000, 3000)}
QUALITY = 92
GRAIN = 6.0
"""Standard deviation of the noise in a picture, in grey levels: a JPEG without any is decoded too fast."""


def write_pictures(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Write pictures that no two are alike of: soft shapes with some grain, as JPEG files."""
    random = np.random.default_rng(0)
    width, height = size
    folder.mkdir()
    paths = [folder / f"{index:05}.jpg" for index in range(count)]
    grain = random.normal(0.0, GRAIN, (height, width, 3)).astype(np.float32)
    for path in paths:
        shapes = Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        pixels = np.clip(np.asarray(shapes, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, "JPEG", quality=QUALITY)
    return paths
