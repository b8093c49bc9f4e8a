from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import global_pooling
from benchmarks.global_pooling import File, Network, claims, exported_as, measure, table
from toolkit.formats import onnx


class Counting:
    """A session that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"logits": np.zeros((len(images), 2), np.float32)}


def network(after: float, nodes: int = 54, difference: float = 0.0) -> Network:
    """Return one that made 100 images per second before."""
    session: Any = Counting()
    files = {"chain": File(64, 2_000_000, session), "mean": File(nodes, 1_990_000, session)}
    speeds = {batch: {"chain": [100.0], "mean": [after]} for batch in global_pooling.BATCHES}
    return Network("resnet18", files, difference, speeds)


def test_what_is_smaller_equal_and_no_slower_is_met() -> None:
    assert [claim.met for claim in claims([network(120.0), network(96.0)])] == [True, True, True]


@pytest.mark.parametrize(
    ("worse", "missed"), [(network(120.0, difference=1e-3), 0), (network(120.0, nodes=64), 1), (network(90.0), 2)]
)
def test_each_claim_can_be_missed(worse: Network, missed: int) -> None:
    assert [claim.met for claim in claims([network(120.0), worse])] == [index != missed for index in range(3)]


def test_the_table_has_both_sides() -> None:
    before, after = table([network(120.0)]).rows
    assert before[:4] == ("resnet18", "chain", "64", "2.00")
    assert (after[1], after[2], after[-1]) == ("mean", "54", "1.20")


def test_each_side_has_a_turn_in_each_round() -> None:
    sessions: dict[str, Any] = {side: Counting() for side in global_pooling.SIDES}
    files = {side: File(1, 1, session) for side, session in sessions.items()}
    found = measure(files, np.zeros((32, 4, 4, 3), np.uint8), rounds=3)
    assert {side: len(values) for side, values in found.items()} == {"chain": 3, "mean": 3}
    assert [session.calls for session in sessions.values()] == [1 + 3 * 2, 1 + 3 * 2]


def test_one_side_only_is_exported_by_pytorch_alone() -> None:
    own = onnx._mean_for_global_pooling
    with exported_as("chain"):
        assert onnx._mean_for_global_pooling is not own
    with exported_as("mean"):
        assert onnx._mean_for_global_pooling is own


def test_the_command_line_names_networks() -> None:
    options = global_pooling.parse(["--backbones", "resnet18", "--rounds", "2"])
    assert (options.backbones, options.rounds) == ("resnet18", 2)
