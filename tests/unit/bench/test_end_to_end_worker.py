"""The parts of an image's time, and the conversation about one artifact."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_sources import png
from PIL import Image

import toolkit
from toolkit.bench import end_to_end_worker as module
from toolkit.bench.end_to_end_worker import begin, phases
from toolkit.bench.worker import serve
from toolkit.pixel_depth import linear_rule
from toolkit.preprocess import DECODE_RULES, prepare, rules_for_deep_pixels


@pytest.fixture
def slow(colour_bundle_once: Path, monkeypatch: pytest.MonkeyPatch, clock) -> Any:
    """A predictor whose parts take a known time: 6 s to decode, 2 to resize, 3 to call, 1 for the rest."""
    predictor = toolkit.load(colour_bundle_once, threads=1)

    def prepared(source: Any, *details: Any) -> np.ndarray:
        clock.time += 8 if isinstance(source, bytes) else 2
        return prepare(source, *details)

    def run(images: np.ndarray) -> dict[str, Any]:
        clock.time += 3
        return {}

    def predict(sources: list[Any], batch_size: int) -> list[Any]:
        assert (len(sources), batch_size) == (1, 1)
        clock.time += 12
        return []

    monkeypatch.setattr(module, "prepare", prepared)
    monkeypatch.setattr(predictor, "run", run)
    monkeypatch.setattr(predictor, "predict", predict)
    return predictor


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_each_part_is_told_apart(slow: Any, clock, seconds: float) -> None:
    files = [png(np.zeros((20, 30, 3), np.uint8))] * 3
    assert phases(slow, files, clock, seconds) == {"decode": 6.0, "resize": 2.0, "call": 3.0, "other": 1.0}


def test_large_images_are_few_and_small_ones_are_measured_often(slow: Any, clock) -> None:
    files = [png(np.zeros((20, 30, 3), np.uint8))] * 3
    before = clock.time
    phases(slow, files, clock, 0.0)
    assert clock.time - before == 8 + 3 * 25  # made ready once, and timed three times
    before = clock.time
    phases(slow, files, clock, 1000.0)
    assert 1000 <= clock.time - before < 1000 + 75


def test_resizing_is_timed_on_what_is_resized(slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large JPEG at a part of its size, and a picture that only a linear rule reads as that rule has it."""
    seen: list[Any] = []
    monkeypatch.setattr(module, "prepare", lambda source, *_: seen.append(source) or np.zeros((8, 8, 3), np.uint8))
    deep, large = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.full((4, 6), 1.0, np.float32)).save(deep, "TIFF")
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(large, "JPEG")
    manifest = slow.manifest
    for content, rules, size in (
        (deep.getvalue(), rules_for_deep_pixels(linear_rule(0, 1)), (6, 4)),
        (large.getvalue(), {"decode": DECODE_RULES["reduced"]}, (20, 16)),
        (large.getvalue(), {"decode": DECODE_RULES["full"]}, (80, 64)),
    ):
        preprocessing = manifest.preprocessing.model_copy(update=rules)
        monkeypatch.setattr(slow, "manifest", manifest.model_copy(update={"preprocessing": preprocessing}))
        module._works(slow, content)[1]()
        assert seen[-1].size == size


def test_the_conversation(colour_bundle_once: Path, tmp_path: Path, clock) -> None:
    for index in range(3):
        (tmp_path / f"{index}").write_bytes(png(np.full((9, 9, 3), index, np.uint8)))
    job = {
        "bundle": str(colour_bundle_once),
        "artifact": "onnx",
        "device": "cpu",
        "threads": 2,
        "allow_code": False,
        "max_pixels": 1000,
        "files": str(tmp_path),
        "min_seconds": 0.0,
    }
    replies = io.StringIO()
    lines = [job, {"do": "measure"}, {"do": "sing"}]
    serve(io.StringIO("\n".join(map(json.dumps, lines)) + "\n"), replies, clock, begin)
    started, measured, refused = map(json.loads, replies.getvalue().splitlines())
    assert started == {}
    assert (measured["images"], measured["seconds"]) == (3, 0.0)
    assert measured["processor_seconds"] > 0
    assert refused == {"error": "ValueError: no command 'sing'"}
