"""Pictures with enough in them: blurred noise, in colour."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tiny_training import Listening

from toolkit.data import near_duplicates
from toolkit.data.near_duplicates import near_pairs
from toolkit.errors import MissingDependencyError
from toolkit.progress import Silent

SIDE = 96


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def pairs(*images: Image.Image) -> list[tuple[int, int]]:
    return near_pairs(images, Silent(), 1)


def encoded(image: Image.Image, kind: str, **options: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Image.open(stream)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "png": lambda image: encoded(image, "PNG"),
    "jpeg of quality 40": lambda image: encoded(image, "JPEG", quality=40),
    "half the size": lambda image: image.resize((SIDE // 2, SIDE // 2)),
    "twice the size": lambda image: image.resize((2 * SIDE, 2 * SIDE)),
    "squashed": lambda image: image.resize((SIDE, SIDE * 3 // 4)),
    "4% cropped on the left and above": lambda image: image.crop((4, 4, SIDE, SIDE)),
    "8% cropped around": lambda image: image.crop((4, 4, SIDE - 4, SIDE - 4)),
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.1))),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_and_nothing_else(kind: str) -> None:
    images = [picture(seed) for seed in range(6)]
    assert pairs(*images, COPIES[kind](images[2])) == [(2, 6)]


def test_distinct_pictures_are_no_pairs() -> None:
    assert pairs(*[picture(seed) for seed in range(40)]) == []


def test_the_same_shapes_in_other_colours_are_another_picture() -> None:
    red, green, blue = picture(0).split()
    other = Image.merge("RGB", (green.point(lambda value: 255 - value), blue, red))
    assert pairs(picture(0), other) == []


def test_pictures_of_one_colour_are_not_taken_for_each_other() -> None:
    assert pairs(Image.new("RGB", (64, 64), "black"), Image.new("RGB", (64, 64), "white")) == []


def test_tiny_pictures_are_left_out_and_said() -> None:
    listening = Listening()
    tiny = picture(0).resize((8, 8))
    assert near_pairs([tiny, picture(1), tiny], listening, 1) == []
    assert listening.lines == ["2 of 3 images are smaller than 16 pixels: no near duplicates are looked for among them"]
    assert near_pairs([], Silent(), 1) == []


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [picture(seed) for seed in range(7)]
    copies = [*images, images[0].resize((64, 64)), images[6].resize((64, 64))]
    whole = pairs(*copies)
    monkeypatch.setattr(near_duplicates, "_BLOCK", 2)
    assert pairs(*copies) == whole == [(0, 7), (6, 8)]


def test_without_imagehash_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"--check-duplicates needs ImageHash.*\[duplicates\]"):
        pairs(picture(0))
