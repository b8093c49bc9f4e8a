"""Which formats are opened with what is installed, and what is taken of each."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image, features

from toolkit.errors import ImageError
from toolkit.preprocess import decode, file_formats
from toolkit.preprocess.file_formats import open_image


def picture() -> np.ndarray:
    """Return red above and blue below on the left, black on the right: an image that shows how it was turned."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24], pixels[16:, :24] = (250, 0, 0), (0, 0, 250)
    return pixels


def heic(exif: bytes = b"") -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC files are made with pillow-heif")
    stream = io.BytesIO()
    extra = {"exif": exif} if exif else {}
    pillow_heif.from_pillow(Image.fromarray(picture())).save(stream, quality=95, **extra)
    return stream.getvalue()


def avif(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "AVIF", quality=95, subsampling="4:4:4", **options)
    return stream.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


class TestContainers:
    @pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_first_frame_of_several(self, format: str) -> None:
        frames = [Image.new("RGB", (6, 4), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
        options = {"lossless": True} if format == "WEBP" else {}
        decoded = decode(encoded(frames[0], format, save_all=True, append_images=frames[1:], **options))
        np.testing.assert_array_equal(decoded, np.asarray(frames[0]))

    def test_multi_picture_jpeg(self) -> None:
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        np.testing.assert_allclose(
            decode(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])), np.asarray(frames[0]), atol=3
        )

    @pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow is built without JPEG 2000")
    def test_jpeg_2000(self) -> None:
        pixels = noise(16, 16)
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "JPEG2000", irreversible=False)), pixels)

    def test_the_content_decides_not_the_suffix(self, tmp_path: Path) -> None:
        path = tmp_path / "really-a-png.jpg"
        path.write_bytes(encoded(Image.fromarray(noise()), "PNG"))
        np.testing.assert_array_equal(decode(path), noise())

    def test_formats_that_start_other_programs_are_refused(self) -> None:
        with pytest.raises(ImageError, match="none of the formats"):
            decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n")


@pytest.mark.skipif("avif" not in features.modules, reason="this Pillow reads no AVIF")
def test_avif_is_turned_once() -> None:
    np.testing.assert_allclose(decode(avif()), picture(), atol=12)
    np.testing.assert_allclose(decode(avif(exif=turned())), np.rot90(picture(), -1), atol=12)


def test_heic_is_turned_once_and_no_opener_is_registered() -> None:
    np.testing.assert_allclose(decode(heic()), picture(), atol=12)
    np.testing.assert_allclose(decode(heic(turned())), np.rot90(picture(), -1), atol=12)
    assert "HEIF" not in Image.OPEN


def test_the_content_decides_what_opens_it(tmp_path: Path) -> None:
    (tmp_path / "really-heic.jpg").write_bytes(heic())
    np.testing.assert_allclose(decode(tmp_path / "really-heic.jpg"), picture(), atol=12)
    assert open_image(io.BytesIO(heic())).size == (48, 32)


@pytest.mark.parametrize("length", [20, 200, 600])
def test_half_a_file_is_a_reason(length: int) -> None:
    with pytest.raises(ImageError, match="the image given as bytes cannot be read as an image: it is"):
        decode(heic()[:length])


def test_heic_without_the_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"it is a HEIC image.*pip install 'vision-deploy-toolkit\[heif\]'"):
        decode(content)


@pytest.mark.skipif("avif" not in features.modules, reason="this Pillow reads no AVIF")
def test_avif_with_an_older_pillow_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = avif()
    monkeypatch.setattr(file_formats.features, "modules", {})
    with pytest.raises(ImageError, match=r"it is an AVIF image.*Pillow 11\.3.*pip install --upgrade pillow"):
        decode(content)


def test_other_media_files_are_no_images() -> None:
    with pytest.raises(ImageError, match="none of the formats"):
        decode(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0" * 64)
