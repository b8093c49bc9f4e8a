"""Every kind of picture becomes the RGB pixels that the manifest promises."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pictures import WHITE, encoded, noise, on_white, png, squash
from PIL import Image

from toolkit.errors import ImageError
from toolkit.pixel_depth import linear_rule
from toolkit.preprocess import Preprocessing, decode, prepare, prepare_batch, rules_for_deep_pixels


class TestColor:
    def test_rgb_keeps_its_pixels(self) -> None:
        pixels = noise()
        decoded = decode(encoded(Image.fromarray(pixels), "PNG"))
        assert decoded.dtype == np.uint8
        assert decoded.flags.c_contiguous
        np.testing.assert_array_equal(decoded, pixels)

    @pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "PPM"])
    def test_grey_is_repeated(self, format: str) -> None:
        grey = noise(channels=0)
        np.testing.assert_array_equal(
            decode(encoded(Image.fromarray(grey), format)), np.repeat(grey[..., None], 3, axis=2)
        )

    def test_bilevel_is_black_and_white(self) -> None:
        bits = noise(channels=0) > 127
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(bits), "PNG"))[..., 0], np.where(bits, 255, 0))

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_is_composited_on_white(self, mode: str) -> None:
        image = Image.fromarray(noise(channels=4)).convert(mode)
        rgba = np.asarray(image.convert("RGBA"))
        np.testing.assert_allclose(decode(encoded(image, "PNG")), on_white(rgba[..., :3], rgba[..., 3]), atol=1)

    def test_fully_transparent_is_white_whatever_lies_beneath(self) -> None:
        assert decode(encoded(Image.new("RGBA", (3, 2), (10, 20, 30, 0)), "PNG")).min() == WHITE

    def test_palette_is_looked_up(self) -> None:
        image = Image.fromarray(noise()).quantize(8)
        np.testing.assert_array_equal(decode(encoded(image, "PNG")), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
    def test_transparent_palette_entries_are_composited_on_white(self, transparency: int | bytes) -> None:
        image = Image.new("P", (3, 1))
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.putdata([0, 1, 2])
        decoded = decode(encoded(image, "PNG", transparency=transparency))[0]
        assert decoded[0].tolist() == [255, 0, 0]
        assert decoded[1].tolist() == [WHITE] * 3
        np.testing.assert_allclose(decoded[2], [0, 0, 255] if transparency == 1 else [127, 127, 255], atol=1)

    def test_transparent_color_of_an_rgb_png_is_white(self) -> None:
        image = Image.new("RGB", (2, 1), (9, 8, 7))
        image.putpixel((1, 0), (1, 2, 3))
        assert decode(encoded(image, "PNG", transparency=(1, 2, 3)))[0].tolist() == [[9, 8, 7], [WHITE] * 3]

    @pytest.mark.parametrize("format", ["JPEG", "TIFF"])
    def test_cmyk(self, format: str) -> None:
        # Pillow's JPEG carries Adobe's marker and inverted values, as Photoshop writes them.
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        np.testing.assert_allclose(decode(encoded(image, format)), np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=3)

    def test_ycbcr_of_pillow(self) -> None:
        image = Image.new("RGB", (4, 4), (200, 30, 60))
        np.testing.assert_allclose(decode(image.convert("YCbCr")), decode(image), atol=2)


class TestSixteenBit:
    VALUES = np.array([[0, 255, 256, 257], [32767, 32768, 65279, 65535]], np.uint16)

    @pytest.mark.parametrize(("format", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
    def test_grey_takes_the_high_byte(self, format: str, order: str) -> None:
        decoded = decode(encoded(Image.fromarray(self.VALUES.astype(order)), format))
        np.testing.assert_array_equal(decoded, np.repeat((self.VALUES >> 8)[..., None], 3, axis=2))

    def test_color_takes_the_high_byte(self) -> None:
        values = np.random.default_rng(0).integers(0, 65536, (2, 3, 3)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        np.testing.assert_array_equal(decode(png(3, 2, 16, 2, rows)), values >> 8)

    def test_transparent_grey_is_white(self) -> None:
        rows = b"\0" + np.array([1000, 2000], ">u2").tobytes()
        assert decode(png(2, 1, 16, 0, rows, extra=struct.pack(">H", 1000)))[0, :, 0].tolist() == [WHITE, 2000 >> 8]

    def test_integers_in_range_are_sixteen_bit(self) -> None:
        np.testing.assert_array_equal(decode(Image.fromarray(self.VALUES.astype(np.int32)))[..., 0], self.VALUES >> 8)

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_integers_out_of_range_are_refused(self, value: int) -> None:
        with pytest.raises(ImageError, match=r"outside 0\.\.65535"):
            decode(encoded(Image.fromarray(np.full((2, 2), value, np.int32)), "TIFF"))

    def test_floating_point_is_refused(self) -> None:
        with pytest.raises(ImageError, match=r"pixel type F.*--sixteen-bit scale"):
            decode(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))

    def test_a_color_space_without_a_way_to_rgb_is_refused(self) -> None:
        with pytest.raises(ImageError, match="pixel type LAB has no way to RGB here; save it as RGB or grey"):
            decode(encoded(Image.new("LAB", (2, 2)), "TIFF"))


def linear(low: float, high: float, size: int = 4) -> Preprocessing:
    return squash(size, **rules_for_deep_pixels(linear_rule(low, high)))


class TestLinear:
    VALUES = np.array([[0, 5, 2048, 4095], [5000, 65535, 8, 9], [0, 0, 0, 0], [4095, 4095, 4095, 4095]], np.uint16)

    @pytest.mark.parametrize(("format", "order"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4")])
    def test_twelve_bits_fill_the_range(self, format: str, order: str) -> None:
        image = Image.fromarray(self.VALUES.astype(order))
        expected = (np.minimum(self.VALUES.astype(int), 4095) * 510 + 4095) // 8190
        for source in (encoded(image, format), image):
            np.testing.assert_array_equal(prepare(source, linear(0, 4095)), np.repeat(expected[..., None], 3, axis=2))

    def test_floating_point_and_integers_below_zero(self) -> None:
        values = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
        prepared = prepare(encoded(Image.fromarray(values), "TIFF"), linear(-1, 1))[..., 0]
        np.testing.assert_array_equal(prepared, np.floor((values.astype(float) + 1) * 255 / 2 + 0.5))
        hounsfield = np.full((4, 4), -1024, np.int32)
        assert prepare(Image.fromarray(hounsfield), linear(-1024, 3071)).max() == 0

    def test_one_image_is_read_as_it_is_among_others(self) -> None:
        dark, bright = (Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (100, 4000))
        alone, together = prepare(dark, linear(0, 4095)), prepare_batch([bright, dark], linear(0, 4095))[1]
        np.testing.assert_array_equal(alone, together)
        assert alone.max() == 6

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_refused(self, value: float) -> None:
        values = np.ones((4, 4), np.float32)
        values[2, 1] = value
        with pytest.raises(ImageError, match="values that are not finite"):
            prepare(Image.fromarray(values), linear(0, 1))

    def test_eight_bits_are_left_as_they_are(self) -> None:
        for source in (noise(4, 4), Image.fromarray(noise(4, 4, channels=0)), noise(4, 4, channels=4)):
            np.testing.assert_array_equal(prepare(source, linear(0, 4095)), prepare(source, squash()))

    @pytest.mark.parametrize(("color", "channels"), [(2, 3), (4, 2), (6, 4)])
    def test_sixteen_bits_in_colour_are_refused(self, color: int, channels: int) -> None:
        rows = (b"\0" + bytes(2 * 4 * channels)) * 4
        assert prepare(png(4, 4, 16, color, rows), squash()).shape == (4, 4, 3)
        with pytest.raises(ImageError, match="16 bits per channel, of which only the high byte can be had"):
            prepare(png(4, 4, 16, color, rows), linear(0, 4095))

    def test_transparent_grey_is_white(self) -> None:
        rows = b"\0" + np.array([1000, 2000], ">u2").tobytes()
        prepared = prepare(png(2, 1, 16, 0, rows, extra=struct.pack(">H", 1000)), linear(0, 4095, 2))
        assert prepared[0, :, 0].tolist() == [WHITE, (2000 * 510 + 4095) // 8190]


def test_pillow_image_without_pixels() -> None:
    with pytest.raises(ImageError, match="0 x 5: it has no pixels"):
        decode(Image.new("RGB", (0, 5)))
