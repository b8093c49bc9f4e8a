"""What is refused before it is decoded, and how threads share what may be decoded.

Each file here is a few hundred bytes that ask for gigabytes, or for hours.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import time

import numpy as np
import pytest
from pictures import encoded
from PIL import Image

from toolkit.decoding_limits import (
    MAX_PIXELS,
    PixelBudget,
    RefusedError,
    exif_fits,
    is_coded_by_dct,
    promised_size,
    require_few_scans,
    require_pixels,
)

Entry = tuple[int, int, int, int]
"""Tag, type, count, value."""


def noise(size: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))


def size_of(content: bytes, limit: int = MAX_PIXELS) -> tuple[int, int]:
    return promised_size(io.BytesIO(content), limit)


def tiff(entries: list[Entry], order: str = "<", magic: bytes = b"II*\0") -> bytes:
    directory = struct.pack(order + "H", len(entries)) + b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + (struct.pack(order + "H", value) + b"\0\0" if kind == 3 and count == 1 else struct.pack(order + "I", value))
        for tag, kind, count, value in entries
    )
    return magic + struct.pack(order + "I", 8) + directory + bytes(4)


def big_tiff(entries: list[Entry]) -> bytes:
    directory = struct.pack("<Q", len(entries)) + b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + directory + bytes(8)


def code_stream(size: tuple[int, int], tile: tuple[int, int], components: int = 3) -> bytes:
    siz = struct.pack(">H8IH", 0, *size, 0, 0, *tile, 0, 0, components) + b"\7\1\1" * components
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz


def jp2(stream: bytes, large: bool = False) -> bytes:
    start = b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4s4s4x4s", 20, b"ftyp", b"jp2 ", b"jp2 ")
    if large:
        return start + struct.pack(">I4sQ", 1, b"jp2c", len(stream) + 16) + stream
    return start + struct.pack(">I4s", len(stream) + 8, b"jp2c") + stream


class TestPromisedSize:
    @pytest.mark.parametrize(
        ("format", "options"),
        [
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"big_tiff": True}),
            ("WEBP", {"lossless": True}),
            ("WEBP", {"quality": 50}),
            ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}),
            ("JPEG2000", {}),
            ("JPEG2000", {"no_jp2": True}),
            ("JPEG2000", {"tile_size": (8, 8)}),
        ],
    )
    def test_it_is_the_pictures_own(self, format: str, options: dict[str, object]) -> None:
        assert size_of(encoded(noise().resize((48, 20)), format, **options)) == (48, 20)

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "PPM"])
    def test_pillow_says_it_of_the_others_before_it_takes_memory(self, format: str) -> None:
        assert size_of(encoded(noise(), format)) == (0, 0)

    @pytest.mark.parametrize(
        "content",
        [
            b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff\x3f\0" + b"\xff\x3f\0",
            b"RIFF\x1e\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(5),
            b"RIFF\x1e\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f",
            code_stream((60_000, 60_000), (60_000, 60_000)),
            jp2(code_stream((2**32 - 1, 2**32 - 1), (2**31, 2**31))),
            jp2(code_stream((60_000, 60_000), (60_000, 60_000)), large=True),
            tiff([(256, 4, 1, 60_000), (257, 4, 1, 60_000)]),
            tiff([(256, 4, 1, 60_000), (257, 4, 1, 60_000)], ">", b"MM\0*"),
            tiff([(256, 4, 1, 60_000), (257, 4, 1, 60_000)], ">", b"MM*\0"),
            big_tiff([(256, 16, 1, 60_000), (257, 4, 1, 60_000)]),
            # the picture is small, the tile that holds it is not
            tiff([(256, 3, 1, 10), (257, 3, 1, 10), (322, 4, 1, 50_000), (323, 4, 1, 50_000)]),
            # the directory says it twice; readers differ in which one they take
            tiff([(256, 3, 1, 10), (256, 4, 1, 60_000), (257, 4, 1, 60_000)]),
        ],
    )
    def test_a_few_bytes_that_promise_a_huge_picture(self, content: bytes) -> None:
        assert len(content) < 200
        with pytest.raises(RefusedError, match=r"\d+ x \d+ pixels, more than 100000000 pixels in all.*--max-pixels"):
            size_of(content)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (code_stream((4096, 4096), (16, 16)), "cut into 65536 tiles, too many for 4096 x 4096 pixels"),
            (code_stream((10, 10), (10, 10), components=16_384), "16384 components"),
            (jp2(b"no code stream"), "does not start with its size"),
            (jp2(b"")[:32] + struct.pack(">I4s", 8, b"free"), "no code stream"),
            (jp2(b"")[:32] + struct.pack(">I4s", 0, b"free"), "no code stream"),
            (jp2(b"")[:34], "ends early"),
            (b"II*\0\x08", "ends early"),
            (b"II*\0" + struct.pack("<I", 4000), "ends early"),
            (big_tiff([])[:16] + struct.pack("<Q", 2**60), "describes more than the file holds"),
            (tiff([(700 + tag, 7, 10**6, 8) for tag in range(60)]), "describes more than the file holds"),
            (tiff([(256, 3, 1, 9), (257, 3, 1, 9), (273, 4, 4 * 10**6, 8)]), "cut into 4000000 pieces"),
            (b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0", "ends early"),
        ],
    )
    def test_what_is_out_of_all_proportion_or_cut_off(self, content: bytes, words: str) -> None:
        with pytest.raises(RefusedError, match=words):
            size_of(content)

    def test_a_file_of_zeros_that_is_larger_than_any_picture_is_not_read(self) -> None:
        class Sparse(io.BytesIO):
            def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
                return 10**12 if whence == os.SEEK_END else super().seek(offset, whence)

        with pytest.raises(RefusedError, match="the file has 1000000000000 bytes, more than 16 for each"):
            promised_size(Sparse(b"RIFF"), MAX_PIXELS)

    def test_the_limit_is_a_parameter(self) -> None:
        require_pixels(10, 10, 100)
        with pytest.raises(RefusedError, match="it has 11 x 10 pixels, more than 100 pixels in all"):
            require_pixels(11, 10, 100)


def test_exif_that_describes_more_than_there_is_is_not_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert exif_fits(exif.tobytes())
    assert exif_fits(b"Exif\0\0" + exif.tobytes())
    assert not exif_fits(b"Exif\0\0" + tiff([(700 + tag, 7, 10**6, 8) for tag in range(60)]))
    assert not exif_fits(b"")
    assert not exif_fits(b"garbage")


class TestScans:
    def many(self, scans: int) -> bytes:
        content = encoded(noise(), "JPEG", progressive=True)
        last = content.rindex(b"\xff\xda")
        return content[:-2] + content[last:-2] * scans + content[-2:]

    def test_ordinary_ones_pass(self) -> None:
        require_few_scans(io.BytesIO(encoded(noise(64), "JPEG", progressive=True)))
        require_few_scans(io.BytesIO(self.many(50)))

    def test_a_hundred_and_more_are_refused(self) -> None:
        with pytest.raises(RefusedError, match="more than 100 scans"):
            require_few_scans(io.BytesIO(self.many(200)))

    def test_what_follows_the_picture_does_not_count(self) -> None:
        # A film behind a photograph, and a thumbnail inside a segment of it.
        photograph = encoded(noise(64), "JPEG", progressive=True)
        require_few_scans(io.BytesIO(photograph + b"\xff\xda" * 500))
        comment = b"\xff\xfe" + struct.pack(">H", 2002) + b"\xff\xda" * 1000
        require_few_scans(io.BytesIO(photograph[:2] + comment + photograph[2:]))


class TestBudget:
    def test_threads_together_never_hold_more_than_the_limit(self) -> None:
        budget, held, most = PixelBudget(), 0, 0
        lock = threading.Lock()

        def decode(pixels: int) -> None:
            nonlocal held, most
            for _ in range(20):
                with budget.share() as share:
                    share.claim(pixels, 100)
                    with lock:
                        held += pixels
                        most = max(most, held)
                    time.sleep(0.0002)
                    with lock:
                        held -= pixels

        threads = [threading.Thread(target=decode, args=(pixels,)) for pixels in (60, 60, 50, 30, 30, 10, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in threads)
        assert held == 0
        assert 60 <= most <= 100

    def test_what_is_above_the_limit_by_itself_waits_until_it_is_alone(self) -> None:
        budget = PixelBudget()
        with budget.share() as share:
            share.claim(10, 100)
            waiting = threading.Thread(target=lambda: budget.share().claim(1000, 100))
            waiting.start()
            waiting.join(timeout=0.05)
            assert waiting.is_alive()
        waiting.join(timeout=60)
        assert not waiting.is_alive()

    def test_who_claims_again_gives_back_what_he_held_first(self) -> None:
        with PixelBudget().share() as share:
            for pixels in (60, 80, 1000, 1):
                share.claim(pixels, 100)

    def test_an_error_gives_back_what_was_held(self) -> None:
        budget = PixelBudget()

        def decode() -> None:
            with budget.share() as share:
                share.claim(100, 100)
                raise ValueError("damaged")

        for _ in range(3):
            with pytest.raises(ValueError, match="damaged"):
                decode()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_forked_process_waits_for_no_thread_that_it_has_not(self) -> None:
        from toolkit.decoding_limits import BUDGET

        with BUDGET.share() as share:
            share.claim(100, 100)
            child = os.fork()
            if child == 0:
                BUDGET.share().claim(100, 100)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestCodedByDct:
    """Which JPEGs can be decoded at a part of their size."""

    @pytest.mark.parametrize("options", [{}, {"progressive": True}])
    def test_what_encoders_write(self, options: dict[str, object]) -> None:
        assert is_coded_by_dct(io.BytesIO(encoded(noise(), "JPEG", **options)))

    @pytest.mark.parametrize(
        ("frame", "coded"), [(0xC1, True), (0xC9, True), (0xCA, True), (0xC3, False), (0xCB, False)]
    )
    def test_it_is_told_by_the_frame(self, frame: int, coded: bool) -> None:
        content = encoded(noise(), "JPEG")
        at = content.index(b"\xff\xc0")
        assert is_coded_by_dct(io.BytesIO(content[: at + 1] + bytes([frame]) + content[at + 2 :])) is coded

    def test_what_looks_like_a_frame_inside_of_a_segment_is_none(self) -> None:
        content = encoded(noise(), "JPEG", comment=b"\xff\xc3\0\x11")
        assert is_coded_by_dct(io.BytesIO(content))
        lossless = content.replace(b"\xff\xc0", b"\xff\xc3").replace(b"\xff\xc3\0\x11\xff", b"\xff\xc0\0\x11\xff")
        assert not is_coded_by_dct(io.BytesIO(lossless))

    def test_bytes_between_segments_are_passed_over(self) -> None:
        content = encoded(noise(), "JPEG")
        at = content.index(b"\xff\xc0")
        assert is_coded_by_dct(io.BytesIO(content[:at] + b"\0\1\xff\0\xff\xff" + content[at:]))
        assert not is_coded_by_dct(io.BytesIO(content[:at] + b"\xff\xda"))
        assert not is_coded_by_dct(io.BytesIO(content[:at]))
