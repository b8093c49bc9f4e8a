from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from benchmarks import depthwise_ways
from benchmarks.depthwise.measuring import Measured
from toolkit.run_folder import DepthwiseShape
from toolkit.training.depthwise import instruction_set

SMALL = DepthwiseShape(channels=8, size=(5, 4), kernel=(5, 5), stride=(1, 1), padding=(2, 2), dilation=(1, 1))
LARGE = SMALL.model_copy(update={"size": (17, 4)})


def test_each_shape_that_is_not_too_large_is_measured_once_in_each_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def shapes_of(backbone: str, side: int) -> list[DepthwiseShape]:
        asked.append((backbone, side))
        return [SMALL, LARGE]

    def measured(shape: DepthwiseShape, kind: str, batch: int, rounds: int, ways: Sequence[str]) -> Measured:
        assert (batch, rounds, ways) == (64, 7, ["pytorch", "products"])
        return Measured(shape, kind, dict.fromkeys(ways, 0.0), {"pytorch": [0.01], "products": [0.01]})

    monkeypatch.setattr(depthwise_ways, "shapes_of", shapes_of)
    monkeypatch.setattr(depthwise_ways, "measured", measured)
    arguments = ["--backbones", "some,other", "--ways", "pytorch,products", "--output", str(tmp_path)]
    assert depthwise_ways.benchmark([*arguments, "--threads", str(torch.get_num_threads())]) == 0
    assert asked == [(name, side) for name in ("some", "other") for side in (64, 128, 224)]
    stem = f"depthwise_ways_{instruction_set().lower()}"
    result = json.loads((tmp_path / f"{stem}.json").read_text())
    shapes = result["measurements"]["shapes"]
    assert [(each["shape"]["size"], each["type"]) for each in shapes] == [([5, 4], "float32"), ([5, 4], "bfloat16")]
    page = (tmp_path / f"{stem}.md").read_text()
    assert "| 8 | 5 x 4 | 5 x 5 | 1 x 1 | float32 | 10.00 | 10.00 |" in page
    assert "- `tiles`: Lay images beside each other" in page
