"""The figures of a turn, and that every answer is held against what is expected of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.errors import BenchmarkError
from benchmarks.harness.pictures import SMALL
from benchmarks.servers import arena
from benchmarks.servers.arena import Files, turn_of
from benchmarks.servers.client import LOST, OK, Answer, Loaded


def answer(began: float, ended: float, status: int = OK) -> Answer:
    return Answer(0, status, began, ended, b"")


def test_a_turn_counts_neither_its_beginning_nor_its_end() -> None:
    # Two connections; after a slow start each answer takes 0.1 s. What was sent last comes after all others.
    answers = [answer(0.0, 1.0), answer(0.0, 1.0)]
    answers += [answer(at / 10, at / 10 + 0.1) for at in range(10, 20) for _ in range(2)]
    found = turn_of(Loaded(answers, 0.0, processor_seconds=0.22), 2, processor_seconds=2.2)
    assert found.images_per_second == pytest.approx(20.0)
    assert (found.p50_seconds, found.p99_seconds) == pytest.approx((0.1, 0.1))
    assert (found.processor_seconds, found.client_seconds) == pytest.approx((0.1, 0.01))
    assert found.errors == 0


def test_errors_are_counted_wherever_they_are() -> None:
    answers = [answer(at / 10, at / 10 + 0.1, LOST if at in (0, 9) else OK) for at in range(10)]
    assert turn_of(Loaded(answers, 0.0, 0.1), 1, 0.1).errors == 2


def test_a_turn_that_is_too_short_is_none() -> None:
    with pytest.raises(BenchmarkError, match="1 answers came of 1 connections: give more --seconds"):
        turn_of(Loaded([answer(0.0, 1.0)], 0.0, 0.1), 1, 0.1)


def test_other_answers_than_those_of_the_predictor_are_noticed() -> None:
    files = Files(SMALL, [b"a", b"b"], np.array([[0.0, 1.0], [1.0, 0.0]], np.float32))
    arena._require_expected("side", files, [1, 0], np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
    with pytest.raises(BenchmarkError, match="'side' does not give the answers"):
        arena._require_expected("side", files, [0, 0], np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
