"""Large JPEGs are decoded at a half, a quarter or an eighth, and it hardly shows."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import UPRIGHT, encoded, full, furthest, jpeg, noise, ramps, reduced, squash
from PIL import Image

from toolkit.decoding_limits import BUDGET
from toolkit.errors import ImageError
from toolkit.pixel_depth import linear_rule
from toolkit.preprocess import (
    Preprocessing,
    decode,
    decoded_for,
    fault,
    prepare,
    rules_for_deep_pixels,
    smallest_reduced,
)


def lossless_jpeg(height: int, width: int) -> bytes:
    """Write a grey lossless JPEG by hand: every pixel is as predicted, which is 128, and takes one bit."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    frame = segment(0xC3, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0))
    table = segment(0xC4, bytes([0, 1, *(0,) * 15, 0]))
    scan = segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
    return b"\xff\xd8" + frame + table + scan + bytes(-(-height * width // 8)) + b"\xff\xd9"


class TestReduced:
    """Large JPEGs are decoded at a half, a quarter or an eighth, and it hardly shows."""

    @pytest.mark.parametrize("part", [2, 4, 8])
    @pytest.mark.parametrize("crop", [{}, {"resize": "crop", "crop_fraction": 0.5}])
    def test_each_part_begins_where_both_sides_are_twice_as_long_as_resized(
        self, part: int, crop: dict[str, object]
    ) -> None:
        how = reduced(height=4, width=6, **crop)
        width, height = smallest_reduced(part, how)
        assert (width, height) == ((2 * part * 12, 2 * part * 8) if crop else (2 * part * 6, 2 * part * 4))
        assert decoded_for(jpeg(noise(height, width)), how).size == (width // part, height // part)
        before = part // 2
        for fewer in ((height - 1, width), (height, width - 1)):
            size = tuple(-(-side // before) for side in reversed(fewer))
            assert decoded_for(jpeg(noise(*fewer)), how).size == size

    def test_there_is_no_smaller_part_than_an_eighth(self) -> None:
        assert decoded_for(jpeg(noise(400, 401)), reduced(2)).size == (51, 50)

    @pytest.mark.parametrize("part", [2, 4, 8])
    @pytest.mark.parametrize("options", [{}, {"subsampling": 2}, {"progressive": True}])
    def test_it_is_what_opencv_reads_at_that_part(self, part: int, options: dict[str, object]) -> None:
        cv2 = pytest.importorskip("cv2", reason="OpenCV, which the extra 'dev' brings, is not installed")
        content = jpeg(noise(16 * part + 3, 16 * part + 5), quality=80, **options)
        flag = getattr(cv2, f"IMREAD_REDUCED_COLOR_{part}")
        theirs = cv2.imdecode(np.frombuffer(content, np.uint8), flag)[..., ::-1]
        assert furthest(np.asarray(decoded_for(content, reduced(8))), theirs) <= 2

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size", [(65, 79), (64, 71), (33, 38)])
    @pytest.mark.parametrize("crop", [{}, {"resize": "crop"}])
    def test_no_pixel_moves(self, orientation: int, size: tuple[int, int], crop: dict[str, object]) -> None:
        how = reduced(height=4, width=4, **crop)
        content = jpeg(ramps(*size), orientation)
        with Image.open(io.BytesIO(content)) as opened:
            assert decoded_for(content, how).width < min(opened.size)
        assert furthest(prepare(content, how), prepare(content, full(how))) <= 6
        assert furthest(prepare(content, how), prepare(UPRIGHT[orientation](ramps(*size)), how)) <= 6

    def test_a_turned_picture_is_judged_by_its_sides_as_they_are_seen(self) -> None:
        lying, standing = jpeg(noise(40, 80)), jpeg(noise(40, 80), orientation=6)
        assert decoded_for(lying, reduced(height=10, width=20)).size == (40, 20)
        assert decoded_for(standing, reduced(height=10, width=20)).size == (40, 80)
        assert decoded_for(standing, reduced(height=20, width=10)).size == (20, 40)

    @pytest.mark.parametrize("mode", ["L", "CMYK", "YCCK"])
    def test_colours_stay_what_they_are(self, mode: str) -> None:
        image = Image.fromarray(ramps(70, 90)).convert("L" if mode == "L" else "CMYK")
        content = encoded(image, "JPEG", quality=95)
        if mode == "YCCK":  # which Pillow reads and does not write: Adobe's marker says how colours are stored
            at = content.index(b"Adobe") + 11
            content = content[:at] + b"\2" + content[at + 1 :]
        how = reduced(8)
        assert decoded_for(content, how).size == (23, 18)
        assert furthest(prepare(content, how), prepare(content, full(how))) <= 4

    def test_the_first_picture_of_several(self) -> None:
        first, second = Image.fromarray(ramps(64, 64)), Image.new("RGB", (64, 64), "blue")
        content = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
        assert decoded_for(content, reduced(4)).size == (8, 8)
        assert furthest(prepare(content, reduced(4)), prepare(first, reduced(4))) <= 4
        later = Image.open(io.BytesIO(content))
        later.seek(1)
        assert furthest(prepare(later, reduced(4)), prepare(second, reduced(4))) <= 4

    @pytest.mark.parametrize(
        ("format", "options"),
        [("PNG", {}), ("WEBP", {}), ("TIFF", {"compression": "jpeg"}), ("BMP", {}), ("GIF", {})],
    )
    def test_other_files_are_decoded_in_full(self, format: str, options: dict[str, object]) -> None:
        content = encoded(Image.fromarray(noise(64, 64)), format, **options)
        assert decoded_for(content, reduced(4)).size == (64, 64)
        np.testing.assert_array_equal(prepare(content, reduced(4)), prepare(content, squash(4)))

    def test_small_files_are_decoded_in_full(self) -> None:
        content = jpeg(noise(31, 64))
        np.testing.assert_array_equal(prepare(content, reduced(8)), prepare(content, squash(8)))

    def test_a_lossless_jpeg_has_no_part_and_is_decoded_in_full(self) -> None:
        """Not every libjpeg reads one; those that do have no part of it to give."""
        content = lossless_jpeg(64, 640)
        if fault(content) is not None:
            pytest.skip("the libjpeg of this Pillow reads no lossless JPEG")
        for source in (content, Image.open(io.BytesIO(content))):
            assert decoded_for(source, reduced(4)).size == (640, 64)
            assert np.unique(prepare(source, reduced(4))).tolist() == [128]

    def test_decode_gives_an_images_own_size(self) -> None:
        assert decode(jpeg(noise(64, 72))).shape == (64, 72, 3)

    def test_a_linear_rule_makes_no_difference(self) -> None:
        content = jpeg(noise(64, 64))
        deep = Preprocessing.model_validate({**reduced(4).model_dump(), **rules_for_deep_pixels(linear_rule(0, 4095))})
        np.testing.assert_array_equal(prepare(content, deep), prepare(content, reduced(4)))

    @pytest.mark.parametrize("resize", ["squash", "crop"])
    def test_every_way_to_hand_a_file_over(self, resize: str, tmp_path: Path) -> None:
        how, content = reduced(4, resize=resize), jpeg(noise(70, 90), orientation=8)
        (tmp_path / "a.jpg").write_bytes(content)
        expected = prepare(content, how)
        assert furthest(expected, prepare(content, full(how))) > 0
        with (tmp_path / "a.jpg").open("rb") as file, Image.open(tmp_path / "a.jpg") as image:
            for source in (tmp_path / "a.jpg", bytearray(content), file, io.BytesIO(content), image):
                np.testing.assert_array_equal(prepare(source, how), expected)

    def test_a_pillow_image_is_its_file_until_it_is_decoded_and_stays_as_it_was(self) -> None:
        content = jpeg(noise(64, 64))
        image = Image.open(io.BytesIO(content))
        np.testing.assert_array_equal(prepare(image, reduced(4)), prepare(content, reduced(4)))
        assert image.size == (64, 64)
        np.testing.assert_array_equal(np.asarray(image), decode(content))
        np.testing.assert_array_equal(prepare(image, reduced(4)), prepare(content, squash(4)))

    def test_a_pillow_image_whose_orientation_was_taken_away_is_not_turned(self) -> None:
        image = Image.open(io.BytesIO(jpeg(ramps(64, 64), orientation=6)))
        image.getexif()[0x0112] = 1
        np.testing.assert_array_equal(prepare(image, reduced(4)), prepare(jpeg(ramps(64, 64)), reduced(4)))

    def test_a_pillow_image_that_its_owner_makes_smaller_is_read_as_that(self) -> None:
        content = jpeg(noise(64, 64))
        image = Image.open(io.BytesIO(content))
        image.draft(None, (32, 32))
        assert prepare(image, reduced(4)).shape == (4, 4, 3)
        assert image.size == (32, 32)

    def test_one_pillow_image_in_many_threads(self) -> None:
        content = jpeg(noise(64, 64))
        image = Image.open(io.BytesIO(content))
        expected = prepare(content, reduced(4))
        with ThreadPoolExecutor(8) as pool:
            for pixels in pool.map(lambda _: prepare(image, reduced(4)), range(40)):
                np.testing.assert_array_equal(pixels, expected)

    def test_a_closed_pillow_image(self) -> None:
        image = Image.open(io.BytesIO(jpeg(noise(64, 64))))
        image.close()
        with pytest.raises(ImageError, match="a Pillow image"):
            prepare(image, reduced(4))

    def test_what_counts_is_the_size_of_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = jpeg(noise(64, 64))
        for source in (content, Image.open(io.BytesIO(content))):
            with pytest.raises(ImageError, match="64 x 64 pixels, more than 4095"):
                prepare(source, reduced(4), 4095)
        claimed: list[int] = []
        monkeypatch.setattr(BUDGET, "take", lambda pixels, _: claimed.append(pixels))
        prepare(content, reduced(4))
        assert max(claimed) == 64 * 64

    def test_a_file_that_ends_early_is_refused(self) -> None:
        content = jpeg(noise(256, 256))
        for source in (content[: len(content) // 2], Image.open(io.BytesIO(content[: len(content) // 2]))):
            with pytest.raises(ImageError, match="truncated"):
                prepare(source, reduced(4))

    def test_too_many_scans_are_refused(self) -> None:
        content = jpeg(noise(64, 64), progressive=True)
        last = content.rindex(b"\xff\xda")
        with pytest.raises(ImageError, match="more than 100 scans"):
            prepare(content[:-2] + content[last:-2] * 200 + content[-2:], reduced(4))

    def test_a_thread_is_too_thin_by_its_own_size(self) -> None:
        with pytest.raises(ImageError, match=r"60000 x 1 pixels: too thin.*squash"):
            prepare(jpeg(np.zeros((1, 60_000, 3), np.uint8)), reduced(224, resize="crop"))
