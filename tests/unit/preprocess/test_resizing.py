"""Images, and parts of them, at the size that a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, full, furthest, jpeg, noise, ramps, reduced, squash
from PIL import Image

from toolkit.decoding_limits import BUDGET
from toolkit.errors import ImageError
from toolkit.preprocess import WHOLE, Preprocessing, prepare, prepare_batch, prepare_parts


class TestPrepare:
    @pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "box", "nearest"])
    def test_squash_is_pillows_resize(self, name: str) -> None:
        pixels = noise(40, 30)
        expected = np.asarray(Image.fromarray(pixels).resize((12, 8), Image.Resampling[name.upper()]))
        np.testing.assert_array_equal(prepare(pixels, squash(height=8, width=12, interpolation=name)), expected)

    def test_the_right_size_is_untouched(self) -> None:
        for resize in ("squash", "crop"):
            np.testing.assert_array_equal(
                prepare(noise(8, 8), squash(8, resize=resize, interpolation="lanczos")), noise(8, 8)
            )

    @pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (8, 8), (1, 2)])
    def test_crop_scales_the_short_side_and_takes_the_centre(self, height: int, width: int) -> None:
        pixels = noise(height, width)
        short = round(16 / 0.875)
        scaled = (
            (short, int(short * height / width + 0.5)) if width < height else (int(short * width / height + 0.5), short)
        )
        resized = np.asarray(Image.fromarray(pixels).resize(scaled, Image.Resampling.BILINEAR))
        top, left = (scaled[1] - 16) // 2, (scaled[0] - 16) // 2
        prepared = prepare(pixels, squash(16, resize="crop", crop_fraction=0.875))
        np.testing.assert_array_equal(prepared, resized[top : top + 16, left : left + 16])

    @pytest.mark.parametrize("size", [(10, 100), (100, 10), (33, 34)])
    def test_crop_to_a_target_that_is_not_square(self, size: tuple[int, int]) -> None:
        prepared = prepare(noise(*size), squash(height=20, width=30, resize="crop", crop_fraction=0.9))
        assert prepared.shape == (20, 30, 3)

    def test_crop_of_a_thread_is_refused(self) -> None:
        with pytest.raises(ImageError, match=r"too thin.*squash"):
            prepare(np.zeros((1, 60_000), np.uint8), squash(224, resize="crop"))

    def test_batch_equals_single_images(self, tmp_path: Path) -> None:
        Image.fromarray(noise(9, 9, seed=3)).save(tmp_path / "a.png")
        sources = [
            noise(),
            tmp_path / "a.png",
            encoded(Image.fromarray(noise(seed=2)), "PNG"),
            Image.fromarray(noise(channels=0)),
        ]
        batch = prepare_batch(sources, squash(6))
        assert batch.shape == (4, 6, 6, 3)
        assert batch.dtype == np.uint8
        for row, source in zip(batch, sources, strict=True):
            np.testing.assert_array_equal(row, prepare(source, squash(6)))

    def test_empty_batch(self) -> None:
        assert prepare_batch([], squash(6)).shape == (0, 6, 6, 3)

    def test_batch_names_the_bad_image(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"bad\.png"):
            prepare_batch([noise(), tmp_path / "bad.png"], squash(6))


class TestLimits:
    def test_a_model_of_an_absurd_size_is_refused_before_anything_is_scaled(self) -> None:
        with pytest.raises(ImageError, match="the model's input has 65536 x 65536 pixels, more than the 100000000"):
            prepare(noise(), squash(65_536))

    def test_a_picture_that_a_crop_would_scale_up_counts_as_large_as_it_gets(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claimed: list[int] = []
        monkeypatch.setattr(BUDGET, "take", lambda pixels, _: claimed.append(pixels))
        prepare(encoded(Image.new("L", (10, 1000)), "PNG"), squash(100, resize="crop"))
        assert max(claimed) == 100 * 10_000


class TestParts:
    """Parts of an image, as training augments, from the pixels that the whole is made of."""

    HOWS: ClassVar = [{}, {"resize": "crop"}, {"resize": "crop", "crop_fraction": 0.8}]

    @pytest.mark.parametrize("how", HOWS)
    def test_the_whole_is_what_is_prepared(self, how: dict[str, object]) -> None:
        image, preprocessing = noise(19, 31), squash(8, **how)
        parts = prepare_parts(image, preprocessing, [WHOLE, (0.0, 0.0, 0.5, 0.5), WHOLE])
        assert parts.shape == (3, 8, 8, 3)
        np.testing.assert_array_equal(parts[0], prepare(image, preprocessing))
        np.testing.assert_array_equal(parts[2], parts[0])
        assert not np.array_equal(parts[1], parts[0])

    def test_a_part_that_has_the_size_is_cut_out(self) -> None:
        image = noise(8, 8)
        (middle,) = prepare_parts(image, squash(4), [(0.25, 0.375, 0.75, 0.875)])
        np.testing.assert_array_equal(middle, image[3:7, 2:6])

    def test_of_what_is_cropped_it_is_a_part_of_the_middle(self) -> None:
        image = noise(4, 8)
        (right,) = prepare_parts(image, squash(4, resize="crop"), [(0.5, 0.0, 1.0, 1.0)])
        wanted = Image.fromarray(image).resize((4, 4), Image.Resampling.BILINEAR, (4, 0, 6, 4))
        np.testing.assert_array_equal(right, np.asarray(wanted))

    @pytest.mark.parametrize("how", HOWS)
    def test_it_lies_where_it_lies_in_the_prepared_image(self, how: dict[str, object]) -> None:
        """Ramps stay ramps: half of the prepared image, enlarged, is the part."""
        image, preprocessing = ramps(160, 200), squash(40, **how)
        (part,) = prepare_parts(image, preprocessing, [(0.25, 0.5, 0.75, 1.0)])
        whole = Image.fromarray(prepare(image, preprocessing))
        wanted = whole.resize((40, 40), Image.Resampling.BILINEAR, (10, 20, 30, 40))
        assert furthest(part[2:-2, 2:-2], np.asarray(wanted)[2:-2, 2:-2]) <= 4

    def test_it_is_as_sharp_as_the_decoded_image(self) -> None:
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        whole, part = prepare_parts(stripes, squash(16), [WHOLE, (0.0, 0.0, 0.25, 0.25)])
        assert np.ptp(whole[:, 1:-1]) < 40
        np.testing.assert_array_equal(part, stripes[:16, :16])

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("crop", [{}, {"resize": "crop"}])
    def test_of_a_jpeg_decoded_at_a_part_of_its_size_no_pixel_moves(
        self, orientation: int, crop: dict[str, object]
    ) -> None:
        how, content = reduced(8, **crop), jpeg(ramps(65, 79), orientation)
        parts = [(0.1, 0.0, 0.8, 0.6), (0.4, 0.3, 1.0, 1.0)]
        assert furthest(prepare_parts(content, how, parts), prepare_parts(content, full(how), parts)) <= 8

    @given(
        st.tuples(st.integers(1, 90), st.integers(1, 90)),
        st.tuples(*[st.floats(0, 0.49)] * 2),
        st.tuples(*[st.floats(0.5, 1)] * 2),
        st.sampled_from(HOWS),
    )
    def test_any_part_of_any_size_can_be_had(
        self, sides: tuple[int, int], begin: tuple[float, float], end: tuple[float, float], how: dict[str, object]
    ) -> None:
        preprocessing = Preprocessing.model_validate({**reduced(4, **how).model_dump(), "width": 6})
        for source in (np.full((*sides, 3), 128, np.uint8), jpeg(np.full((*sides, 3), 128, np.uint8))):
            parts = prepare_parts(source, preprocessing, [(*begin, *end), WHOLE])
            assert parts.shape == (2, 4, 6, 3)
            assert np.unique(parts).tolist() == [128]

    def test_a_bad_image_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"bad\.png"):
            prepare_parts(tmp_path / "bad.png", squash(6), [WHOLE])
