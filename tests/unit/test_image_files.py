"""Which files are images by their names, and which formats are opened with what is installed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from toolkit import image_files
from toolkit.errors import ImageError
from toolkit.image_files import IMAGE_SUFFIXES, image_by_name, left_by_a_system, not_images, open_image
from toolkit.preprocess import decode

pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC files are made with pillow-heif")


def picture() -> np.ndarray:
    """Return red above and blue below on the left, black on the right: an image that shows how it was turned."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24], pixels[16:, :24] = (250, 0, 0), (0, 0, 250)
    return pixels


def heic(exif: bytes = b"") -> bytes:
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


def test_suffixes_are_lower_case() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat.JPG", True),
        ("cat.HEIC", True),
        ("cat.avif", True),
        ("notes.txt", False),
        ("cat.jpg.txt", False),
        ("cat.CR2", False),
        ("cat", None),
        ("2019.07.14", None),
        ("cat.", None),
    ],
)
def test_the_name_decides_where_it_says_something(name: str, expected: bool | None) -> None:
    assert image_by_name(name) is expected


@pytest.mark.parametrize("name", [".DS_Store", "._cat.jpg", ".git", "Thumbs.db", "__MACOSX", "@eaDir", "desktop.ini"])
def test_what_systems_leave(name: str) -> None:
    assert left_by_a_system(name)
    assert not left_by_a_system("cat")


def test_files_that_are_no_images_are_counted() -> None:
    assert not_images("train/cat", []) is None
    assert not_images("train/cat", ["a.txt"]) == "1 file in train/cat is no image by its name: .txt (1)"
    names = [f"{number}.CR2" for number in range(15)] + ["README", "a.txt"]
    assert not_images("train/cat", names) == (
        "17 files in train/cat are no images by their name: .CR2 (15), .txt (1), no suffix (1)"
    )
    assert (not_images("x", [f"a.{letter}" for letter in "abcdefgh"]) or "").endswith(".e (1), others (3)")
    assert (not_images("x", ["a.\x1b[31m", "b.\udce9"]) or "").endswith(r": .\x1b[31m (1), .\udce9 (1)")


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
    monkeypatch.setattr(image_files.features, "modules", {})
    with pytest.raises(ImageError, match=r"it is an AVIF image.*Pillow 11\.3.*pip install --upgrade pillow"):
        decode(content)


def test_other_media_files_are_no_images() -> None:
    with pytest.raises(ImageError, match="none of the formats"):
        decode(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + b"\0" * 64)
