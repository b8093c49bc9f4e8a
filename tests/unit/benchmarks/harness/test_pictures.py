from __future__ import annotations

from pathlib import Path

from PIL import Image

from benchmarks.harness.pictures import write_pictures


def test_pictures_have_their_size_and_are_not_alike(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "small", (32, 32), 3)
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (32, 32)
    assert len({path.read_bytes() for path in paths}) == 3
