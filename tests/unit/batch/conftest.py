"""Images of three colours, and what reads the parts that were made of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import toolkit
from toolkit.runtime import Predictor

COLOURS = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def needs_pyarrow() -> None:
    pytest.importorskip("pyarrow", reason="the extra 'batch' is not installed")


@pytest.fixture(scope="session")
def predictor(colour_bundle_once: Path) -> Predictor:
    return toolkit.load(colour_bundle_once, threads=1)


@pytest.fixture
def encoded(colour_image: Callable[[str], np.ndarray]) -> Callable[[str], bytes]:
    """Return a maker of PNG files in the colour of a label."""

    def make(label: str) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(colour_image(label)).save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture
def photos(tmp_path: Path, encoded: Callable[[str], bytes]) -> Path:
    """Return a folder of ten images, the colours in turns, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(10):
        (folder / ("more" if number % 2 else "") / f"{number}.png").write_bytes(encoded(COLOURS[number % 3]))
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def rows_of() -> Callable[[Path], list[dict[str, Any]]]:
    """Return what reads all rows of a folder of parts, as another program does it."""
    dataset = pytest.importorskip("pyarrow.dataset", reason="the extra 'batch' is not installed")

    def read(out: Path) -> list[dict[str, Any]]:
        return [dict(row) for row in dataset.dataset(out, format="parquet").to_table().to_pylist()]

    return read
