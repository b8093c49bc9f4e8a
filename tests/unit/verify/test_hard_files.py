from __future__ import annotations

import io

import numpy as np
from PIL import ExifTags, Image

from toolkit.verify.hard_files import hard_files


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
