"""The fastest matrix product: exact with a clock that moves only inside a product, and once with PyTorch itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from toolkit.bench import peak
from toolkit.bench.clock import MonotonicClock
from toolkit.bench.peak import fastest_of_engines, fastest_product, peak_of_onnxruntime, peak_of_torch


def test_the_fastest_call_of_all_sides_counts_and_the_first_call_does_not(clock: Any) -> None:
    taken = {2: iter([0.5, 4.0, 2.0, 8.0]), 4: iter([0.5, 16.0, 8.0, 9.0])}

    def product(side: int) -> Callable[[], None]:
        def multiply() -> None:
            clock.time += next(taken[side])

        return multiply

    # 2 * 2^3 operations in 2 s at best, 2 * 4^3 in 8 s.
    assert fastest_product(product, [2], clock) == 8.0
    taken[2] = iter([0.5, 4.0, 2.0, 8.0])
    assert fastest_product(product, [2, 4], clock) == 16.0


def test_pytorch_multiplies_in_float32_and_with_the_threads_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(peak, "SIZES", {"cpu": (8,)})
    monkeypatch.setattr(peak, "SECONDS", 0.0)
    seen = []

    def mm(left: Any, right: Any, *, out: Any) -> None:
        seen.append((left.dtype, right.shape, out.device.type, torch.get_num_threads()))

    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "mm", mm)
    found = peak_of_torch("cpu", before + 1, MonotonicClock())
    assert found is not None
    assert found > 0
    assert set(seen) == {(torch.float32, torch.Size([8, 8]), "cpu", before + 1)}
    assert torch.get_num_threads() == before


def test_the_second_gpu_has_the_sizes_of_a_gpu_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    waited: list[str] = []
    made = torch.rand
    monkeypatch.setattr(peak, "SIZES", {"cuda": (8,)})
    monkeypatch.setattr(peak, "SECONDS", 0.0)
    monkeypatch.setattr(torch, "rand", lambda *sides, device: made(*sides) if device == "cuda:1" else None)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    assert peak_of_torch("cuda:1", 1, MonotonicClock()) is not None
    assert set(waited) == {"cuda:1"}


def test_nothing_is_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert peak_of_torch("cpu", 1, MonotonicClock()) is None


def test_the_faster_of_the_engines_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: dict[str, float | None] = {"torch": 2.0, "onnxruntime": 5.0}
    monkeypatch.setattr(peak, "peak_of_torch", lambda device, threads, clock: rates["torch"])
    monkeypatch.setattr(peak, "peak_of_onnxruntime", lambda threads, clock: rates["onnxruntime"])
    assert fastest_of_engines("cpu", 1, MonotonicClock()) == 5.0
    assert fastest_of_engines("cuda", 1, MonotonicClock()) == 2.0
    rates["onnxruntime"] = None
    assert fastest_of_engines("cpu", 1, MonotonicClock()) == 2.0
    rates["torch"] = None
    assert fastest_of_engines("cpu", 1, MonotonicClock()) is None


def test_onnxruntime_multiplies_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SIZES", {"cpu": (8,)})
    monkeypatch.setattr(peak, "SECONDS", 0.0)
    found = peak_of_onnxruntime(1, MonotonicClock())
    assert found is not None
    assert found > 0
    monkeypatch.setattr(peak, "why_not", lambda name, missing: "not installed")
    assert peak_of_onnxruntime(1, MonotonicClock()) is None
