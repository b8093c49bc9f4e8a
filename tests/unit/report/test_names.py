"""Names made short."""

from __future__ import annotations

import pytest

from toolkit.report.names import distinct, middle


@pytest.mark.parametrize(
    ("name", "shown"),
    [("short", "short"), ("a\n b", "a b"), ("abcdefghijklmnop", "abcde…lmnop"), ("a\u202eb", "a\\u202eb")],
)
def test_a_name_is_cut_in_the_middle(name: str, shown: str) -> None:
    assert middle(name, 11) == shown


def test_names_that_differ_still_do() -> None:
    assert distinct(["cat", "a rather long name"], 11) == ["cat", "a rat… name"]
    classes = [f"class {number:04d} of a set" for number in range(3)]
    assert distinct(classes, 12) == ["…0000…", "…0001…", "…0002…"]
    runs = ["experiment-resnet1-96px: onnx", "experiment-resnet2-96px: onnx"]
    assert distinct(runs, 16) == ["…resnet1…", "…resnet2…"]


def test_where_nothing_else_tells_them_apart_their_positions_do() -> None:
    names = ["a" * 30 + letter + "b" * 30 for letter in "xyz"]
    assert distinct(names, 11) == ["#0 aaaa…bbb", "#1 aaaa…bbb", "#2 aaaa…bbb"]


def test_the_same_name_twice_is_one_name() -> None:
    assert distinct(["a long name indeed"] * 2, 9) == ["a lo…deed"] * 2
    assert distinct([], 9) == []
