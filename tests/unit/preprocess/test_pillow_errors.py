"""Nothing but a sentence comes out of bad input, and no warning is left behind."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from fuzzing import FUZZ
from hypothesis import given
from hypothesis import strategies as st
from pictures import encoded, noise, small_files, squash
from PIL import Image

from toolkit.errors import ImageError
from toolkit.preprocess import decode, decoding, fault, prepare


class TestRefusals:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"gone\.png cannot be read as an image: there is no such file"):
            decode(tmp_path / "gone.png")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="it is a folder"):
            decode(tmp_path)

    def test_not_an_image(self, tmp_path: Path) -> None:
        (tmp_path / "notes.png").write_text("not a picture")
        with pytest.raises(ImageError, match=r"notes\.png.*none of the formats BMP"):
            decode(tmp_path / "notes.png")

    def test_truncated_file(self, tmp_path: Path) -> None:
        (tmp_path / "half.jpg").write_bytes(encoded(Image.fromarray(noise(64, 64)), "JPEG")[:-600])
        with pytest.raises(ImageError, match=r"half\.jpg.*damaged"):
            decode(tmp_path / "half.jpg")

    def test_what_the_system_says(self) -> None:
        with pytest.raises(ImageError, match="File name too long"):
            decode("x" * 5000)

    def test_null_byte_in_a_path(self) -> None:
        with pytest.raises(ImageError, match="null byte"):
            decode("a\0b.png")

    def test_memory_runs_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise MemoryError

        monkeypatch.setattr(Image, "open", refuse)
        with pytest.raises(ImageError, match="more memory"):
            decode(b"anything")

    def test_bomb_is_refused_and_a_large_image_passes_without_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(ImageError, match="more than 200 pixels"):
            decode(encoded(Image.new("L", (201, 1)), "PNG"))
        assert decode(encoded(Image.new("L", (150, 1)), "PNG")).shape == (1, 150, 3)

    def test_a_bug_is_not_taken_for_a_bad_image(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise AssertionError

        monkeypatch.setattr(decoding, "upright_rgb", broken)
        with pytest.raises(AssertionError):
            decode(encoded(Image.fromarray(noise()), "PNG"))


@pytest.mark.parametrize("kind", sorted(small_files()))
def test_damaged_files_give_an_array_or_an_image_error(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # A flipped byte in a header can promise a picture of gigabytes; a lower limit keeps this test small.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    content = small_files()[kind]
    rng = np.random.default_rng(0)
    variants = [content[:length] for length in range(1, len(content), max(1, len(content) // 60))]
    for flips in (1, 4):
        for _ in range(80):
            damaged = np.frombuffer(content, np.uint8).copy()
            where = rng.integers(0, min(len(damaged), 400), flips)
            damaged[where] ^= rng.integers(1, 256, flips, dtype=np.uint8)
            variants.append(damaged.tobytes())
    messages: list[str] = []
    for variant in variants:
        try:
            decoded = decode(variant)
        except ImageError as error:
            messages.append(str(error))
        else:
            assert decoded.dtype == np.uint8
            assert decoded.ndim == 3
            assert decoded.shape[2] == 3
    assert len(messages) > len(variants) // 20
    assert not [message for message in messages if "\n" in message]
    capfd.readouterr()  # libtiff prints its own complaints; they are not part of what is tested


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A small image file with some bytes changed, taken out, doubled or added."""
    content = bytearray(small_files()[draw(st.sampled_from(sorted(small_files())))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(content), 400) - 1)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8), st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff", b"\xff\xda"])
            )
        )
        kind = draw(st.sampled_from(["replace", "insert", "cut", "double", "end"]))
        if kind == "replace":
            content[at : at + len(piece)] = piece
        elif kind == "insert":
            content[at:at] = piece
        elif kind == "cut":
            del content[at : at + 1 + draw(st.integers(0, 30))]
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(0, 60))]
        else:
            del content[max(1, at) :]
    return bytes(content)


@given(content=st.one_of(damaged(), st.binary(max_size=200)), crop=st.booleans())
@FUZZ
def test_fuzz_any_bytes_give_pixels_or_a_sentence(
    capfd: pytest.CaptureFixture[str], content: bytes, crop: bool
) -> None:
    preprocessing = squash(8, resize="crop" if crop else "squash")
    try:
        prepared = prepare(content, preprocessing, max_pixels=500_000)
    except ImageError as error:
        message = str(error)
    else:
        message = ""
        assert (prepared.shape, prepared.dtype) == ((8, 8, 3), np.uint8)
    assert "\n" not in message
    capfd.readouterr()  # libtiff prints its own complaints; they are not part of what is tested


class TestWarnings:
    def test_filters_are_left_as_they_were(self) -> None:
        before = list(warnings.filters)
        decode(encoded(Image.fromarray(noise()), "PNG"))
        fault(b"text")
        assert list(warnings.filters) == before

    def test_threads_that_overlap_leave_nothing_behind(self) -> None:
        before = list(warnings.filters)
        content = encoded(Image.fromarray(noise(64, 64)), "JPEG")
        threads = [threading.Thread(target=lambda: [decode(content) for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(warnings.filters) == before

    def test_warnings_of_pillow_are_not_shown(self) -> None:
        exif = Image.Exif()
        exif[0x010E] = "x" * 100
        content = encoded(Image.fromarray(noise()), "TIFF", exif=exif)[:-40]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fault(content)
        assert caught == []
