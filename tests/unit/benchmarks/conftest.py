"""Images and cases that several tests of the benchmarks share."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.faults.ledger import Case


@pytest.fixture
def images(tmp_path):
    """Return a folder of two classes of small noise: 8 and 4 training images, 4 and 4 test images."""
    random = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, counts in (("train", (8, 4)), ("test", (4, 4))):
        for name, count in zip(("cat", "sea lion"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(
                    root / split / name / f"{index}.jpg"
                )
    return root


def make_case(name, backbone="timm:tf_efficientnet_lite0", caught=True, **changes):
    run = f"{backbone.rpartition(':')[2]}-0"
    return Case(
        **{
            "run": run,
            "backbone": backbone,
            "name": name,
            "what": "w",
            "format": "onnx",
            "caught": caught,
            "by": "outputs",
            **changes,
        }
    )


@pytest.fixture(scope="session")
def case():
    """Return a maker of judged cases, of a fault that was caught if nothing else is said."""
    return make_case
