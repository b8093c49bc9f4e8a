from __future__ import annotations

from benchmarks.depthwise.measuring import measured, shapes_of
from toolkit.run_folder import DepthwiseShape


def test_the_shapes_are_those_of_the_network() -> None:
    shapes = shapes_of("timm:test_efficientnet", 64)
    assert shapes
    assert all(shape.kernel == (3, 3) for shape in shapes)


def test_every_way_has_a_turn_in_each_round() -> None:
    shape = DepthwiseShape(channels=8, size=(5, 4), kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    found = measured(shape, "float32", batch=2, rounds=2)
    assert {"pytorch", "products", "rows", "columns", "offsets", "tiles"} <= set(found.seconds)
    assert {len(seconds) for seconds in found.seconds.values()} == {2}
    assert max(found.errors.values()) < 1e-5
