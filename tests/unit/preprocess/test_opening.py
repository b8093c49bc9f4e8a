"""What is opened, and what is refused before it takes memory."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, noise, on_white, png_chunk, small_files
from PIL import Image

from toolkit.errors import ImageError
from toolkit.preprocess import decode, fault, opening

UNDER_LIMIT = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from toolkit.preprocess import Preprocessing, fault, prepare
preprocessing = Preprocessing(height=32, width=32, resize="squash", interpolation="bilinear")
small = Path(sys.argv[1], "small")
for file in small.iterdir():  # what Pillow imports on first use
    prepare(file, preprocessing)
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
"""


def under_limit(folder: Path, megabytes: int, program: str) -> str:
    """Run a program that may take so much memory more than it has after its imports."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell the size of a process")
    (folder / "small").mkdir(exist_ok=True)
    for name, content in small_files().items():
        (folder / "small" / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", UNDER_LIMIT + program, folder, str(megabytes)],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # glibc sets 64 MB of addresses aside for each thread
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _bombs() -> dict[str, bytes]:
    """Small files of 30000 x 30000 pixels."""
    side = 30_000
    size = struct.pack(">II", side, side)
    frames = png_chunk(b"acTL", struct.pack(">II", 100_000, 0))
    head = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", size + b"\1\0\0\0\0")
    jpeg = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    progressive = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG", progressive=True))
    at = progressive.index(b"\xff\xc2")
    progressive[at + 5 : at + 9] = struct.pack(">HH", side, side)
    gif = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    frame = bytearray(gif)
    gif[6:10] = struct.pack("<HH", side, side)
    at = frame.index(b"\x2c", 13)
    frame[at + 5 : at + 9] = struct.pack("<HH", side, side)
    bmp = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + struct.pack("<I", side - 1)[:3] * 2
    tiff = bytearray(encoded(Image.new("L", (8, 8)), "TIFF", compression="tiff_lzw"))
    for tag in (256, 257):
        at = tiff.index(
            struct.pack("<HH", tag, 4) if struct.pack("<HH", tag, 4) in tiff else struct.pack("<HH", tag, 3)
        )
        tiff[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)
    codestream = encoded(Image.new("L", (8, 8)), "JPEG2000", no_jp2=True)
    siz = codestream.index(b"\xff\x51")
    codestream = codestream[: siz + 6] + size + bytes(8) + size + codestream[siz + 30 :]
    return {
        "a.png": head + png_chunk(b"IDAT", zlib.compress(bytes(10**5))) + png_chunk(b"IEND", b""),
        "animated.png": head + frames + png_chunk(b"IDAT", zlib.compress(bytes(10**5))) + png_chunk(b"IEND", b""),
        "a.jpg": bytes(jpeg),
        "progressive.jpg": bytes(progressive),
        "canvas.gif": bytes(gif),
        "frame.gif": bytes(frame),
        "a.bmp": bytes(bmp),
        "a.ppm": b"P6 30000 30000 255 \0\0\0",
        "plain.pbm": b"P1 30000 30000 0 1",
        "a.webp": webp,
        "a.tiff": bytes(tiff),
        "a.j2k": codestream,
    }


class TestArrays:
    @pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
    def test_grey(self, shape: tuple[int, ...]) -> None:
        grey = noise(channels=0)
        np.testing.assert_array_equal(decode(grey.reshape(shape)), np.repeat(grey[..., None], 3, axis=2))

    def test_alpha(self) -> None:
        rgba = noise(channels=4)
        np.testing.assert_allclose(decode(rgba), on_white(rgba[..., :3], rgba[..., 3]), atol=1)

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros((4, 4, 3), np.float32), "float32.*uint8"),
            (np.zeros((4, 4), bool), "bool.*uint8"),
            (np.zeros((2, 4, 4, 3), np.uint8), r"\[2, 4, 4, 3\].*\[h, w, 3\]"),
            (np.zeros((3, 4, 5), np.uint8), r"\[3, 4, 5\]"),
            (np.zeros((0, 4, 3), np.uint8), "no pixels"),
            (np.zeros((4, 0), np.uint8), "no pixels"),
        ],
    )
    def test_others_are_refused(self, array: np.ndarray, words: str) -> None:
        with pytest.raises(ImageError, match=words):
            decode(array)


class TestRefusals:
    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        with pytest.raises(ImageError, match=r"empty\.jpg.*is empty"):
            decode(tmp_path / "empty.jpg")

    def test_closed_pillow_image(self, tmp_path: Path) -> None:
        Image.fromarray(noise()).save(tmp_path / "a.png")
        image = Image.open(tmp_path / "a.png")
        image.close()
        with pytest.raises(ImageError, match=r"a Pillow image \(.*a\.png\)"):
            decode(image)


class TestBombs:
    def test_a_small_file_of_many_pixels_is_refused_before_it_takes_memory(self, tmp_path: Path) -> None:
        bombs = _bombs()
        assert max(map(len, bombs.values())) < 3000
        for name, content in bombs.items():
            (tmp_path / name).write_bytes(content)
        program = (
            "for file in sorted(Path(sys.argv[1]).iterdir()):\n"
            "    if file.is_file():\n"
            "        print(file.name, fault(file), fault(file.read_bytes()) == fault(file), sep='|')\n"
        )
        lines = under_limit(tmp_path, 64, program).splitlines()
        assert len(lines) == len(bombs)
        for line in lines:
            _, reason, same = line.split("|")
            assert re.match("it has (30000 x 30000 pixels, )?more than 100000000 pixels in all", reason), line
            assert same == "True"

    @pytest.mark.parametrize(
        "content", [b"8BPS\0\1" + bytes(20) + b"\0\x03", b"icns\0\0\x10\0", b"\0\0\1\0\1\0" + bytes(40)]
    )
    def test_formats_that_are_not_read_promise_nothing(self, content: bytes) -> None:
        assert "none of the formats" in (fault(content) or "")

    def test_threads_together_take_no_more_than_one_image_may(self, tmp_path: Path) -> None:
        # Each takes 20 to 80 MB; all eight at once would take far more than there is.
        for name, image, options in (
            ("a.gif", Image.new("P", (2000, 2000)), {}),
            ("b.png", Image.new("RGBA", (2000, 2000)), {}),
            ("c.webp", Image.new("RGB", (2000, 2000)), {"lossless": True, "method": 0}),
            ("d.tiff", Image.new("RGB", (2000, 2000)), {"compression": "tiff_lzw"}),
        ):
            image.save(tmp_path / name, **options)
        program = (
            "files = [file for file in sorted(Path(sys.argv[1]).iterdir()) if file.is_file()] * 6\n"
            "import threading; threading.stack_size(2**18)\n"
            "with ThreadPoolExecutor(8) as pool:\n"
            "    list(pool.map(lambda file: prepare(file, preprocessing, 4_000_000), files))\n"
        )
        under_limit(tmp_path, 150, program)

    def test_a_hundred_thousand_frames_are_one(self) -> None:
        frame = Image.new("RGB", (4, 4), (255, 0, 0))
        gif = encoded(frame, "GIF")
        block = gif[gif.index(b"\x2c", 13) : -1]
        two = encoded(frame, "WEBP", save_all=True, append_images=[Image.new("RGB", (4, 4))], lossless=True)
        animation = two[two.index(b"ANMF") :]
        body = two[12 : two.index(b"ANMF")] + animation * 50_000
        webp = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
        pages = encoded(frame, "TIFF", save_all=True, append_images=[frame] * 50)
        for content in (gif[:-1] + block * 100_000 + b";", webp, pages):
            decoded = decode(content)
            assert decoded.shape == (4, 4, 3)
            assert decoded[0, 0].tolist() == [255, 0, 0]

    def test_a_larger_limit_than_pillows_own_works(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(opening, "MAX_PIXELS", 100)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
        content = encoded(Image.new("L", (30, 10)), "PNG")
        with pytest.raises(ImageError, match="30 x 10 pixels, more than 299"):
            decode(content, max_pixels=299)
        assert decode(content, max_pixels=300).shape == (10, 30, 3)

    def test_a_lazy_pillow_image_is_refused_before_it_is_loaded(self) -> None:
        image = Image.open(io.BytesIO(encoded(Image.new("L", (30, 10)), "PNG")))
        with pytest.raises(ImageError, match="more than 299"):
            decode(image, max_pixels=299)

    def test_too_many_scans_are_refused(self) -> None:
        content = encoded(Image.fromarray(noise(16, 16)), "JPEG", progressive=True)
        last = content.rindex(b"\xff\xda")
        with pytest.raises(ImageError, match="more than 100 scans"):
            decode(content[:-2] + content[last:-2] * 200 + content[-2:])
        assert decode(content).shape == (16, 16, 3)
