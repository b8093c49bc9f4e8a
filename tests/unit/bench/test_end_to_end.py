"""From the bytes of files to labels: the files, the rounds, the record."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toolkit.bench import end_to_end as module
from toolkit.bench.end_to_end import Asked, Files, end_to_end, image_files, measure_end_to_end
from toolkit.errors import FileWriteError


@dataclass
class Sources:
    """A test split."""

    sources: list[Any]
    max_pixels: int = 10_000


def picture(value: int) -> np.ndarray:
    return np.full((5, 7, 3), value, np.uint8)


def encoded(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(value)).save(buffer, kind)
    return buffer.getvalue()


def contents(files: Files) -> list[bytes]:
    return [path.read_bytes() for path in sorted(files.folder.iterdir())]


def test_files_are_taken_as_they_are(tmp_path: Path) -> None:
    originals = [encoded(value, "JPEG") for value in range(3)]
    paths = [tmp_path / f"{position}.jpg" for position in range(3)]
    for path, content in zip(paths, originals, strict=True):
        path.write_bytes(content)
    files = image_files(Sources([str(paths[0]), paths[1], originals[2]]), tmp_path / "files", seed=0)
    assert sorted(contents(files)) == sorted(originals)
    assert (files.count, files.encoded_as_png, files.max_pixels) == (3, False, 10_000)


def test_pictures_that_are_no_files_become_png_and_that_is_said(tmp_path: Path) -> None:
    files = image_files(Sources([picture(3), picture(4)[:, :, 0]]), tmp_path / "files", seed=0)
    assert files.encoded_as_png
    read = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in contents(files)]
    assert sorted(int(image.max()) for image in read) == [3, 4]


def test_the_same_few_are_drawn_each_time(tmp_path: Path) -> None:
    sources = Sources([encoded(value) for value in range(100)])
    one, two = (image_files(sources, tmp_path / name, seed=0) for name in "ab")
    assert one.count == module.MOST_FILES == len(contents(one))
    assert contents(one) == contents(two)


def test_large_files_are_fewer_and_at_least_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    assert image_files(Sources([encoded(1), encoded(2)]), tmp_path / "files", seed=0).count == 1


def test_a_file_that_has_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileWriteError, match=r"cannot gather test images in .*--no-end-to-end"):
        image_files(Sources([tmp_path / "gone.png"]), tmp_path / "files", seed=0)


def test_the_record(tmp_path: Path) -> None:
    rounds = [{"images": 10, "seconds": seconds, "processor_seconds": 2.0} for seconds in (1.0, 2.0, 4.0)]
    phases = {"decode": 0.06, "resize": 0.01, "call": 0.02, "other": 0.01}
    record = end_to_end([*rounds, phases], Files(tmp_path, 4, True, 100))
    assert (record.throughput.median, record.throughput.rounds) == (5.0, 3)
    assert record.processor_seconds_per_image == pytest.approx(0.2)
    assert [(phase.name, pytest.approx(phase.share)) for phase in record.phases] == [
        ("decode", 0.6),
        ("resize", 0.1),
        ("call", 0.2),
        ("other", 0.1),
    ]
    assert (record.files, record.batch_size, record.encoded_as_png) == (4, 4, True)


def test_real_workers_in_rounds_and_one_that_fails_is_left_out(
    colour_bundle: Path, tmp_path: Path, plan, lines
) -> None:
    files = image_files(Sources([encoded(value) for value in range(6)]), tmp_path / "files", seed=0)
    asked = Asked(colour_bundle, 1, False, 0.0)
    plans = [plan("onnx"), plan("openvino")]
    measured = measure_end_to_end(plans, files, asked, lines)
    assert list(measured) == [("onnx", "cpu")]
    (record,) = measured.values()
    assert (record.files, record.throughput.rounds) == (6, module.ROUNDS)
    assert record.processor_seconds_per_image > 0
    assert sum(phase.share for phase in record.phases) == pytest.approx(1.0)
    assert all(phase.seconds_per_image >= 0 for phase in record.phases)
    assert len(lines.lines) == 1
    assert lines.lines[0].startswith("openvino on cpu is not measured from files to labels: ")
    assert lines.bars == {"files to labels": [2 * (module.ROUNDS + 1)] * 2}
