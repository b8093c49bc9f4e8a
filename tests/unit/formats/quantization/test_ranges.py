from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import layers, reddish

from toolkit.formats.quantization import ranges
from toolkit.formats.quantization.graph import OPERATORS, preprocess
from toolkit.formats.quantization.ranges import batch_size_for, find_ranges, merge_bins


def test_merged_bins_hold_the_same_values_around_the_same_zero() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    threshold = np.abs(values).max()
    counts, edges = np.histogram(values, 10, range=(-threshold, threshold))
    merged, coarse, least, largest, outermost = merge_bins(
        (counts, edges.astype(np.float32), values.min(), values.max(), threshold), 4
    )
    assert len(merged) == 4
    assert merged.sum() == 1000
    assert coarse[2] == 0
    assert merged[2:].sum() == counts[5:].sum()
    assert coarse[-1] == outermost == pytest.approx(threshold / 5 * 8)
    assert (least, largest) == (values.min(), values.max())


def test_a_batch_is_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layers(np.eye(3), np.eye(2, 3))
    assert batch_size_for(model) == 32
    monkeypatch.setattr(ranges, "MEMORY_BYTES", 3 * 4 * sum(ranges.float_tensors(model).values()))
    assert batch_size_for(model) == 3
    monkeypatch.setattr(ranges, "MEMORY_BYTES", 1)
    assert batch_size_for(model) == 1


def test_every_method_finds_a_range_in_one_pass_over_a_stream(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save_model(layers(np.eye(3), np.eye(2, 3)), tmp_path / "made.onnx")
    preprocess(tmp_path / "made.onnx", tmp_path / "ready.onnx")
    images = reddish(40)[0]
    images[7, 0, 0, 0] = 255
    given = []

    def stream() -> object:
        for start in range(0, 40, 8):
            given.append(start)
            yield images[start : start + 8]

    found = find_ranges(tmp_path / "ready.onnx", OPERATORS, stream(), "images", tmp_path)
    assert given == [0, 8, 16, 24, 32]
    assert list(found) == ["minmax", "entropy", "percentile"]
    limits = {method: tuple(float(value) for value in tensors["x0"].range_value) for method, tensors in found.items()}
    assert limits["minmax"] == pytest.approx((60 / 255, 1.0))
    for method in ("entropy", "percentile"):
        assert limits["minmax"][0] - 1e-6 <= limits[method][0] < limits[method][1] <= limits["minmax"][1] + 1e-6
    assert capsys.readouterr().out == ""
