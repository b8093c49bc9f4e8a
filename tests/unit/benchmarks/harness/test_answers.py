from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.answers import apart, require_same
from benchmarks.harness.errors import BenchmarkError


def test_a_side_with_other_answers_is_noticed() -> None:
    right = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    require_same("same", right, right + np.float32(0.001))
    for wrong in (right[::-1], right[:1], right + np.float32(0.1), np.full_like(right, np.nan)):
        with pytest.raises(BenchmarkError, match="the side 'other' does not give the answers"):
            require_same("other", right, wrong)
    with pytest.raises(BenchmarkError, match="every image gets the same answer"):
        require_same("other", np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))


def test_few_answers_are_held_to_what_all_images_are_apart() -> None:
    every = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    require_same("one", every[:1], every[:1], apart(every))
    with pytest.raises(BenchmarkError, match="the side 'one' does not give the answers"):
        require_same("one", every[:1], every[1:], apart(every))
