from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from toolkit.errors import ImageError
from toolkit.preprocess import DECODE_RULES, ImageSource, Preprocessing, decoded_for, prepare
from toolkit.verify import hard_files as module
from toolkit.verify.hard_files import check_hard_files, hard_files, large_files

SQUASH = Preprocessing(height=16, width=16, resize="squash", interpolation="bilinear")
REDUCED = SQUASH.model_copy(update={"decode": DECODE_RULES["reduced"]})


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


class TestLargeFiles:
    """What is decoded at a part of its size, and what is just too small for it."""

    @pytest.mark.parametrize("change", [{}, {"width": 24}, {"resize": "crop", "crop_fraction": 0.9, "height": 20}])
    def test_each_is_decoded_at_the_part_that_its_name_says(self, change: dict[str, object]) -> None:
        how = REDUCED.model_copy(update=change)
        files = large_files(how)
        assert files == large_files(how)
        parts = {}
        for name, content in files.items():
            with Image.open(io.BytesIO(content)) as image:
                parts[name] = max(image.size) / max(decoded_for(content, how).size)
        for part in (2, 4, 8):
            assert parts.pop(f"just-large-enough-for-1-{part}.jpg") == part
            assert round(parts.pop(f"one-row-too-few-for-1-{part}.jpg"), 1) == part / 2
        assert parts.pop("large.png") == 1
        assert {round(part, 1) for part in parts.values()} == {2}
        assert len(parts) == 6

    def test_each_is_large_in_the_way_that_its_name_says(self) -> None:
        opened = {name: Image.open(io.BytesIO(content)) for name, content in large_files(REDUCED).items()}
        assert opened["large-turned.jpg"].getexif()[ExifTags.Base.Orientation] == 6
        assert opened["large-upside-down.jpg"].getexif()[ExifTags.Base.Orientation] == 3
        assert opened["large-progressive.jpg"].info["progressive"]
        assert (opened["large-grey.jpg"].mode, opened["large-cmyk.jpg"].mode) == ("L", "CMYK")
        assert opened["large-several.jpg"].format == "MPO"

    def test_there_are_none_where_all_is_decoded_in_full_and_none_too_large(self) -> None:
        assert large_files(SQUASH) == {}
        assert large_files(REDUCED.model_copy(update={"height": 2048, "width": 2048})) == {}
        some = large_files(REDUCED.model_copy(update={"height": 8, "width": 2048}))
        assert {name for name in some if name.startswith("just")} == {
            f"just-large-enough-for-1-{part}.jpg" for part in (2, 4, 8)
        }

    @pytest.mark.parametrize("change", [{}, {"resize": "crop", "crop_fraction": 0.9}])
    def test_every_way_to_hand_a_file_over_gives_the_same_pixels(self, change: dict[str, object]) -> None:
        check = check_hard_files(REDUCED.model_copy(update=change))
        assert check.passed, check.failures
        assert check.detail == "30 hard files as paths, bytes and Pillow images, pixel by pixel"

    def test_a_service_that_decodes_in_full_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def careless(source: ImageSource, how: Preprocessing) -> np.ndarray:
            return prepare(source, SQUASH if isinstance(source, bytes) else how)

        monkeypatch.setattr(module, "prepare", careless)
        named = {failure.split(" ")[0] for failure in check_hard_files(REDUCED).failures}
        assert {"large-turned.jpg", "large-grey.jpg", "large-cmyk.jpg", "just-large-enough-for-1-2.jpg"} <= named
        assert not {"large.png", "one-row-too-few-for-1-2.jpg", "progressive.jpg"} & named
