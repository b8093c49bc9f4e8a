from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from toolkit.errors import ImageError
from toolkit.preprocess import ImageSource, Preprocessing, prepare
from toolkit.verify import hard_files as module
from toolkit.verify.hard_files import check_hard_files, hard_files

SQUASH = Preprocessing(height=16, width=16, resize="squash", interpolation="bilinear")


def opened(name: str) -> Image.Image:
    return Image.open(io.BytesIO(hard_files()[name]))


def test_they_are_the_same_bytes_on_every_call() -> None:
    assert hard_files() == hard_files()


def test_every_file_is_an_image_of_the_format_that_its_name_says() -> None:
    formats = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "tif": "TIFF"}
    for name in hard_files():
        image = opened(name)
        image.load()
        assert image.format == formats[name.rpartition(".")[2]]


def test_each_is_hard_in_the_way_that_its_name_says() -> None:
    for name in ("exif-orientation.jpg", "exif-orientation.png"):
        assert opened(name).getexif()[ExifTags.Base.Orientation] == 6
    assert opened("progressive.jpg").info["progressive"]
    modes = {
        "cmyk.jpg": "CMYK",
        "grey.png": "L",
        "one-bit.png": "1",
        "alpha.png": "RGBA",
        "grey-alpha.png": "LA",
        "palette.png": "P",
        "sixteen-bit-grey.png": "I;16",
        "twelve-bit-grey.tif": "I;16B",
    }
    assert {name: opened(name).mode for name in modes} == modes
    assert np.asarray(opened("sixteen-bit-grey.png")).max() > 4095
    assert 255 < np.asarray(opened("twelve-bit-grey.tif")).max() <= 4095
    assert "transparency" in opened("palette-alpha.png").info
    assert getattr(opened("animation.gif"), "n_frames", 1) == 2
    sizes = {"one-pixel.png": (1, 1), "wide.png": (150, 2), "tall.png": (2, 150)}
    assert {name: opened(name).size for name in sizes} == sizes


@pytest.mark.parametrize("preprocessing", [SQUASH, SQUASH.model_copy(update={"resize": "crop", "crop_fraction": 0.9})])
def test_every_way_to_hand_a_file_over_gives_the_same_pixels(preprocessing: Preprocessing) -> None:
    check = check_hard_files(preprocessing)
    assert check.passed
    assert check.detail == "17 hard files as paths, bytes and Pillow images, pixel by pixel"


def test_a_way_to_hand_a_file_over_that_gives_other_pixels_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(source: ImageSource, how: Preprocessing) -> np.ndarray:
        if isinstance(source, Image.Image) and source.format == "GIF":
            raise ImageError("no GIF")
        pixels = prepare(source, how)
        return pixels[:, ::-1] if isinstance(source, bytes) else pixels

    monkeypatch.setattr(module, "prepare", careless)
    check = check_hard_files(SQUASH)
    assert not check.passed
    assert "animation.gif given as a Pillow image is refused: no GIF" in check.failures
    assert any(failure.startswith("progressive.jpg given as bytes differs in 2") for failure in check.failures)


def test_a_file_that_cannot_be_prepared_at_all_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(source: ImageSource, how: Preprocessing) -> np.ndarray:
        raise ImageError("refused")

    monkeypatch.setattr(module, "prepare", refusing)
    check = check_hard_files(SQUASH)
    assert len(check.failures) == 17
    assert check.failures[0] == "exif-orientation.jpg given as a path is refused: refused"
