"""A model that computes in numpy, and what it is asked."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import LABELS
from tests.v2_models import ColourModel, FixedModels, Remembering
from toolkit.bundle import Manifest
from toolkit.serving.interface import ModelState


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory, colour_manifest: Callable[[Path], Manifest]) -> Manifest:
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "model.onnx").write_bytes(b"")
    return colour_manifest(folder)


@pytest.fixture
def model(manifest: Manifest) -> ColourModel:
    return ColourModel(manifest)


@pytest.fixture
def models(model: ColourModel, manifest: Manifest) -> FixedModels:
    """The model, in two versions, and another one that is not ready."""
    broken = ModelState("broken", "1", "UNAVAILABLE", "its golden samples differ")
    return FixedModels(ColourModel(manifest, version="0"), model, not_ready=[broken])


@pytest.fixture
def observer() -> Remembering:
    return Remembering()


@pytest.fixture(scope="session")
def pixels(colour_image: Callable[[str], np.ndarray]) -> np.ndarray:
    """One image of each label, in their order."""
    return np.stack([colour_image(label) for label in LABELS])


@pytest.fixture(scope="session")
def files(pixels: np.ndarray) -> list[bytes]:
    """The same as image files."""
    contents = []
    for image in pixels:
        with io.BytesIO() as file:
            Image.fromarray(image).save(file, "PNG")
            contents.append(file.getvalue())
    return contents
