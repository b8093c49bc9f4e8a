from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from bundles import rewrite_golden
from PIL import Image

from toolkit.bundle import Bundle, read_manifest
from toolkit.bundle.writer import write_manifest
from toolkit.data import Split
from toolkit.decoding_limits import MAX_PIXELS
from toolkit.pixel_depth import linear_rule
from toolkit.preprocess import DECODE_RULES, Preprocessing, prepare, rules_for_deep_pixels
from toolkit.verify import hard_files
from toolkit.verify.preprocessing import check_preprocessing


def split_of(bundle: Bundle, images: np.ndarray) -> Split:
    names = tuple(case.source for case in bundle.golden().cases)
    return Split("test", list(images), np.arange(len(images)), names, "0" * 64)


def test_hard_files_are_the_same_bytes_each_time_and_all_can_be_read() -> None:
    files = hard_files.hard_files()
    assert files == hard_files.hard_files()
    modes = {}
    for name, content in files.items():
        with Image.open(io.BytesIO(content)) as opened:
            modes[name] = opened.mode
        assert prepare(
            content, Preprocessing(height=9, width=11, resize="crop", interpolation="bicubic", crop_fraction=0.9)
        ).shape == (9, 11, 3)
    assert {"CMYK", "P", "L", "LA", "RGBA", "1", "RGB"} <= set(modes.values())
    assert modes["sixteen-bit-grey.png"].startswith("I")
    assert b"\xff\xc2" in files["progressive.jpg"]


def test_the_same_path_gives_the_same_pixels(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    check = check_preprocessing(bundle, bundle.manifest.preprocessing, split_of(bundle, bundle.golden_images()))
    assert check.passed, check.failures
    assert check.failures == ()
    assert "3 golden samples" in check.detail


def test_another_range_of_deep_pixels_is_caught(colour_bundle: Path) -> None:
    manifest = read_manifest(colour_bundle)
    trained, shipped = (
        Preprocessing.model_validate(
            {**manifest.preprocessing.model_dump(), **rules_for_deep_pixels(linear_rule(0, high))}
        )
        for high in (4095, 65535)
    )
    for used, expected in ((trained, set()), (shipped, {"sixteen-bit-grey.png", "twelve-bit-grey.tif"})):
        write_manifest(colour_bundle, manifest.model_copy(update={"preprocessing": used}))
        bundle = Bundle.open(colour_bundle)
        check = check_preprocessing(bundle, trained, split_of(bundle, bundle.golden_images()))
        assert {failure.split(" ")[0] for failure in check.failures} == expected


@pytest.mark.parametrize("trained", ["full", "reduced"])
def test_another_size_of_decoding_is_caught(colour_bundle: Path, trained: str) -> None:
    manifest = read_manifest(colour_bundle)
    rules = {
        choice: manifest.preprocessing.model_copy(update={"decode": DECODE_RULES[choice]}) for choice in DECODE_RULES
    }
    for shipped in DECODE_RULES:
        write_manifest(colour_bundle, manifest.model_copy(update={"preprocessing": rules[shipped]}))
        bundle = Bundle.open(colour_bundle)
        check = check_preprocessing(bundle, rules[trained], split_of(bundle, bundle.golden_images()))
        named = {failure.split(" ")[0] for failure in check.failures}
        assert check.passed == (shipped == trained)
        assert ("just-large-enough-for-1-8.jpg" in named) == ("large-turned.jpg" in named) == (shipped != trained)
        assert not {"large.png", "grey.png", "alpha.png"} & named


@pytest.mark.parametrize(
    "change", [{"interpolation": "nearest"}, {"resize": "crop"}, {"crop_fraction": 0.5, "resize": "crop"}]
)
def test_another_record_gives_other_pixels_and_names_the_files(colour_bundle: Path, change: dict[str, object]) -> None:
    manifest = read_manifest(colour_bundle)
    trained = manifest.preprocessing
    write_manifest(colour_bundle, manifest.model_copy(update={"preprocessing": trained.model_copy(update=change)}))
    bundle = Bundle.open(colour_bundle)
    check = check_preprocessing(bundle, trained, split_of(bundle, bundle.golden_images()))
    assert not check.passed
    assert any(failure.startswith("exif-orientation.jpg given as bytes") for failure in check.failures)


def test_a_service_that_ignored_orientation_would_be_caught(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def careless(source: object, how: Preprocessing, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        if isinstance(source, bytes):
            with Image.open(io.BytesIO(source)) as opened, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if opened.mode.startswith("I"):
                    return np.zeros((how.height, how.width, 3), np.uint8)
                return np.array(opened.convert("RGB").resize((how.width, how.height), Image.Resampling.BILINEAR))
        return prepare(source, how, max_pixels)  # type: ignore[arg-type]  # whatever the check passes on

    monkeypatch.setattr(hard_files, "prepare", careless)
    bundle = Bundle.open(colour_bundle)
    failures = check_preprocessing(
        bundle, bundle.manifest.preprocessing, split_of(bundle, bundle.golden_images())
    ).failures
    named = {failure.split(" ")[0] for failure in failures}
    assert {
        "exif-orientation.jpg",
        "exif-orientation.png",
        "alpha.png",
        "palette-alpha.png",
        "sixteen-bit-grey.png",
    } <= named
    assert "progressive.jpg" not in named


def test_golden_samples_are_found_by_their_position_where_they_have_no_name(colour_bundle: Path) -> None:
    pixels = Bundle.open(colour_bundle).golden_images()
    names = [case.source for case in Bundle.open(colour_bundle).golden().cases]

    def neutral(text: str) -> str:
        for index, name in enumerate(names):
            text = text.replace(f'"source": "{name}"', f'"source": "test image {len(names) - index}"')
        return text

    rewrite_golden(colour_bundle, neutral)
    bundle = Bundle.open(colour_bundle)
    assert "test image 1" in [case.source for case in bundle.golden().cases]
    # The samples are the last of the test images, in reverse order.
    images = [np.zeros_like(pixels[0]), *pixels[::-1]]
    test = Split("test", images, np.arange(len(images)), tuple(f"{n}.png" for n in range(len(images))), "0" * 64)
    check = check_preprocessing(bundle, bundle.manifest.preprocessing, test)
    assert (check.passed, f"{len(names)} golden samples" in check.detail) == (True, True), check.failures
    shuffled = dataclasses.replace(test, sources=images[::-1])
    assert not check_preprocessing(bundle, bundle.manifest.preprocessing, shuffled).passed


def test_golden_samples_of_other_images_are_no_proof(colour_bundle: Path) -> None:
    bundle = Bundle.open(colour_bundle)
    elsewhere = Split("test", list(bundle.golden_images()), np.arange(3), ("x", "y", "z"), "0" * 64)
    check = check_preprocessing(bundle, bundle.manifest.preprocessing, elsewhere)
    assert check.failures == ("none of the golden samples is made from a test image of this run",)
