"""Image files that are decoded wrongly by many programs, made in memory, and whether they are prepared as they should.

Needs no PyTorch: ``preprocessing`` compares with training, this file the ways in which a service is handed an image.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from toolkit.errors import ImageError
from toolkit.preprocess import DENOMINATORS, ImageSource, Preprocessing, prepare, smallest_reduced
from toolkit.results import Check

Pixels = npt.NDArray[np.uint8]
_MOST_PIXELS = 2**24


def check_hard_files(preprocessing: Preprocessing) -> Check:
    """Prepare hard files under the preprocessing of a bundle: each must give the same pixels however it is handed over.

    What training makes of them needs the run, see ``preprocessing.check_preprocessing``.
    """
    started, failures, files = time.perf_counter(), list[str](), {**hard_files(), **large_files(preprocessing)}
    with hard_paths(files) as paths:
        for (name, content), path in zip(files.items(), paths, strict=True):
            try:
                expected = prepare(path, preprocessing)
            except ImageError as error:
                failures.append(f"{name} given as a path is refused: {error}")
                continue
            failures += handed_over(name, content, path, expected, preprocessing)
    return Check(
        name="preprocessing",
        passed=not failures,
        failures=tuple(failures),
        detail=f"{len(files)} hard files as paths, bytes and Pillow images, pixel by pixel",
        seconds=time.perf_counter() - started,
    )


@contextmanager
def hard_paths(files: dict[str, bytes]) -> Iterator[list[Path]]:
    """Yield files of this content in a temporary folder, in order."""
    with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
        paths = [Path(folder, f"{index:02d}-{name}") for index, name in enumerate(files)]
        for path, content in zip(paths, files.values(), strict=True):
            path.write_bytes(content)
        yield paths


def handed_over(name: str, content: bytes, path: Path, expected: Pixels, preprocessing: Preprocessing) -> list[str]:
    """Return a sentence for each way to hand a file over that does not give the expected pixels ``[H, W, 3]``."""
    failures = []
    with Image.open(io.BytesIO(content)) as opened:
        ways: dict[str, ImageSource] = {"a path": path, "bytes": content, "a Pillow image": opened}
        for way, source in ways.items():
            try:
                failures += differences(f"{name} given as {way}", expected, prepare(source, preprocessing))
            except ImageError as error:
                failures.append(f"{name} given as {way} is refused: {error}")
    return failures


def differences(what: str, expected: Pixels, actual: Pixels) -> list[str]:
    """Return a sentence if two images are not the same."""
    if expected.shape != actual.shape:
        return [f"{what} becomes {list(actual.shape)} instead of {list(expected.shape)} pixels"]
    difference = np.abs(expected.astype(np.int16) - actual)
    if not difference.any():
        return []
    return [
        f"{what} differs in {int(difference.any(axis=2).sum())} of {expected.shape[0] * expected.shape[1]} pixels, "
        f"by up to {difference.max()}"
    ]


def hard_files() -> dict[str, bytes]:
    """Return files by a name that says what is hard about them. The same bytes on every call."""
    colour = _picture(37, 53)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    half_clear = np.dstack([colour, np.linspace(0, 255, 37 * 53).reshape(37, 53).astype(np.uint8)])
    palette = Image.fromarray(colour).quantize(16)
    deep = (np.arange(37 * 53).reshape(37, 53) * 33 % 65536).astype(np.uint16)
    return {
        "exif-orientation.jpg": _encode(Image.fromarray(colour), "JPEG", exif=turned, quality=90),
        "exif-orientation.png": _encode(Image.fromarray(colour), "PNG", exif=turned),
        "progressive.jpg": _encode(Image.fromarray(colour), "JPEG", progressive=True, quality=75),
        "chroma-subsampled.jpg": _encode(Image.fromarray(colour), "JPEG", subsampling=2, quality=60),
        "cmyk.jpg": _encode(Image.fromarray(colour).convert("CMYK"), "JPEG", quality=90),
        "grey.png": _encode(Image.fromarray(colour).convert("L"), "PNG"),
        "one-bit.png": _encode(Image.fromarray(colour).convert("1"), "PNG"),
        "sixteen-bit-grey.png": _encode(Image.fromarray(deep), "PNG"),
        "twelve-bit-grey.tif": _encode(Image.fromarray((deep >> 4).astype(">u2")), "TIFF"),
        "alpha.png": _encode(Image.fromarray(half_clear), "PNG"),
        "grey-alpha.png": _encode(Image.fromarray(half_clear).convert("LA"), "PNG"),
        "palette.png": _encode(palette, "PNG"),
        "palette-alpha.png": _encode(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "animation.gif": _encode(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        "one-pixel.png": _encode(Image.fromarray(colour[:1, :1]), "PNG"),
        "wide.png": _encode(Image.fromarray(_picture(2, 150)), "PNG"),
        "tall.png": _encode(Image.fromarray(_picture(150, 2)), "PNG"),
    }


def large_files(preprocessing: Preprocessing) -> dict[str, bytes]:
    """Return JPEGs that a preprocessing decodes at a part of their size, some just too small for it, and a PNG.

    None under a preprocessing that does not. Sizes at which a picture would have more than 16 million pixels are left
    out, so that a model of many pixels is checked in seconds too. The same bytes on every call.
    """
    files: dict[str, bytes] = {}
    if not preprocessing.reduced:
        return files
    for part in DENOMINATORS:
        width, height = smallest_reduced(part, preprocessing)
        if width * height <= _MOST_PIXELS:
            picture = Image.fromarray(_tiled(height, width))
            files[f"just-large-enough-for-1-{part}.jpg"] = _encode(picture, "JPEG", quality=50)
            files[f"one-row-too-few-for-1-{part}.jpg"] = _encode(
                picture.crop((0, 0, width, height - 1)), "JPEG", quality=50
            )
    width, height = smallest_reduced(2, preprocessing)
    if width * height <= _MOST_PIXELS // 2:
        # Sides that no part divides evenly, and that are exchanged by one of the orientations.
        picture = Image.fromarray(_tiled(height + 13, width + 27))
        on_its_side = Image.fromarray(_tiled(width + 27, height + 13))
        turned, mirrored = Image.Exif(), Image.Exif()
        turned[ExifTags.Base.Orientation], mirrored[ExifTags.Base.Orientation] = 6, 3
        several = [picture.rotate(180)]
        files |= {
            "large-turned.jpg": _encode(on_its_side, "JPEG", exif=turned, quality=75),
            "large-upside-down.jpg": _encode(picture, "JPEG", exif=mirrored, quality=75),
            "large-progressive.jpg": _encode(picture, "JPEG", progressive=True, quality=75),
            "large-grey.jpg": _encode(picture.convert("L"), "JPEG", quality=75),
            "large-cmyk.jpg": _encode(picture.convert("CMYK"), "JPEG", quality=75),
            "large-several.jpg": _encode(picture, "MPO", save_all=True, append_images=several, quality=75),
            "large.png": _encode(picture, "PNG", compress_level=1),
        }
    return files


def _picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return smooth colours with noise on top, uint8 ``[h, w, 3]``: edges, flat parts and fine detail."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = np.stack([np.sin(down / 5), np.cos(across / 7), np.sin((down + across) / 11)], axis=2)
    noise = np.random.default_rng(0).normal(0, 20, waves.shape)
    return np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8)


def _tiled(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return ``_picture`` of 256 x 256 pixels, repeated as often as is needed, uint8 ``[h, w, 3]``."""
    return np.tile(_picture(256, 256), (-(-height // 256), -(-width // 256), 1))[:height, :width]


def _encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()
