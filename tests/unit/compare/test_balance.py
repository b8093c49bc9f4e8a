from __future__ import annotations

import pytest

from toolkit.compare.balance import imbalance_line, strongly_imbalanced


@pytest.mark.parametrize(
    ("counts", "strong"), [((10, 10), False), ((49, 10), False), ((50, 10), True), ((3, 0), False)]
)
def test_five_to_one_is_strong(counts: tuple[int, ...], strong: bool) -> None:
    assert strongly_imbalanced(counts) is strong


def test_it_says_the_ratio_and_what_one_answer_would_reach() -> None:
    line = imbalance_line((900, 45), (180, 20), ("cat", "dog"), None)
    assert line == (
        "strong imbalance: 'cat' has 900 training images, 'dog' 45 (20 to 1), and always answering 'cat' would be "
        "right on 90.0% of the test images; --class-weights balanced lets all classes count alike in training"
    )


def test_weights_that_are_used_already_are_said() -> None:
    line = imbalance_line((900, 45), (180, 20), ("cat", "dog"), (0.525, 10.5))
    assert line is not None
    assert line.endswith("; the loss weighs the classes from 0.525 to 10.5")


def test_balanced_classes_are_not_worth_a_line() -> None:
    assert imbalance_line((40, 20), (8, 4), ("cat", "dog"), None) is None
