from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.formats.quantization.sensitivity import kept_in_float, sqnr_decibels
from toolkit.results import GroupSensitivity


def test_noise_a_tenth_as_large_as_the_signal_is_20_decibels() -> None:
    signal = np.array([[3.0, -4.0]], np.float32)
    assert sqnr_decibels(signal, signal * np.float32(1.1)) == pytest.approx(20, abs=1e-4)


def test_no_noise_and_broken_logits_are_the_ends_of_the_scale() -> None:
    signal = np.array([[3.0, -4.0]], np.float32)
    assert sqnr_decibels(signal, signal) == math.inf
    assert sqnr_decibels(signal, np.array([[np.nan, 0]], np.float32)) == -math.inf
    assert sqnr_decibels(np.zeros((1, 2), np.float32), signal) == -math.inf


def test_the_most_sensitive_groups_are_kept() -> None:
    ranked = [
        GroupSensitivity(nodes=nodes, sqnr_decibels=value)
        for nodes, value in ((("b", "c"), 3.0), (("a",), 9.0), (("d",), 30.0))
    ]
    assert kept_in_float(ranked, 2) == ("b", "c", "a")
    record = GroupSensitivity(nodes=("a",), sqnr_decibels=math.inf)
    assert GroupSensitivity.from_json(record.to_json()) == record
