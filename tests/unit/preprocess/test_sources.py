"""What is taken as an image: paths, bytes of any kind, and files that are open."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image

from toolkit.errors import ImageError
from toolkit.preprocess import decode


class TestPaths:
    @pytest.mark.parametrize("name", ["图像.png", "صورة.png", "🦊 fox.png", "ça va.PNG", "नमूना.png"])
    def test_names_in_any_script(self, tmp_path: Path, name: str) -> None:
        pixels = noise()
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(decode(tmp_path / name), pixels)
        np.testing.assert_array_equal(decode(str(tmp_path / name)), pixels)

    @pytest.mark.parametrize("source", [b"", ""])
    def test_nothing(self, source: bytes | str) -> None:
        with pytest.raises(ImageError, match="it is empty"):
            decode(source)


class TestOpenFiles:
    @pytest.mark.parametrize("kind", [bytearray, memoryview, io.BytesIO])
    def test_bytes_of_any_kind(self, kind: Callable[[bytes], Any]) -> None:
        pixels = noise()
        np.testing.assert_array_equal(decode(kind(encoded(Image.fromarray(pixels), "PNG"))), pixels)

    def test_a_file_is_read_from_its_start_and_left_where_it_was(self, tmp_path: Path) -> None:
        pixels = noise()
        Image.fromarray(pixels).save(tmp_path / "a.png")
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        with (tmp_path / "a.png").open("rb") as file:
            for opened, at in ((file, 7), (buffer, buffer.tell())):
                opened.seek(at)
                np.testing.assert_array_equal(decode(opened), pixels)
                np.testing.assert_array_equal(decode(opened), pixels)
                assert opened.tell() == at

    def test_one_file_in_several_threads(self, tmp_path: Path) -> None:
        pixels = noise(64, 64)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        with (tmp_path / "a.png").open("rb") as file, ThreadPoolExecutor(4) as pool:
            for decoded in pool.map(decode, [file] * 40):
                np.testing.assert_array_equal(decoded, pixels)

    def test_a_stream_that_cannot_go_back(self) -> None:
        content = encoded(Image.fromarray(noise()), "PNG")

        class Response:
            """As urllib and others give one."""

            def __init__(self) -> None:
                self.rest = io.BytesIO(content)

            def read(self, size: int = -1) -> bytes:
                return self.rest.read(min(size, 10))

        np.testing.assert_array_equal(decode(Response()), noise())  # type: ignore[arg-type]  # it reads bytes

    def test_a_stream_without_an_end_is_refused(self) -> None:
        class Endless:
            def read(self, size: int) -> bytes:
                return bytes(size)

        with pytest.raises(ImageError, match="it has more than 160000 bytes"):
            decode(Endless(), max_pixels=10_000)  # type: ignore[arg-type]  # it reads bytes

    @pytest.mark.parametrize("source", [None, [[0, 1], [2, 3]], {"a": 1}, 3, object()])
    def test_other_things_are_named(self, source: object) -> None:
        with pytest.raises(ImageError, match="give a path, the bytes of an image file, a binary file that is open"):
            decode(source)  # type: ignore[arg-type]  # the mistake under test
