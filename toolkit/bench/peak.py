"""The fastest matrix product on a device: what operations per second are held against."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.bench.clock import Clock
from toolkit.bench.measure import measure_round

SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
"""Sides of the square matrices that are tried. Small ones do not fill a device, large ones wait for memory."""
SECONDS = 0.3
"""Least measured time of each side."""


class _Product:
    """One product as something to be timed."""

    def __init__(self, multiply: Callable[[], None]) -> None:
        self._multiply = multiply

    def run(self, inputs: npt.NDArray[np.generic]) -> None:
        del inputs
        self._multiply()


def fastest_product(product: Callable[[int], Callable[[], None]], sides: Sequence[int], clock: Clock) -> float:
    """Return operations per second of the fastest product; a multiplication and an addition are two operations.

    Args:
        product: takes the side of two square matrices, returns what multiplies them and waits for the result.
        sides: those to try. Of each the fastest of many calls counts, the first call not: a peak is what was reached at
            best, and on a busy machine the median of PyTorch's threads is far below it.
        clock: what measures.
    """
    rates = []
    for side in sides:
        runner = _Product(product(side))
        nothing = np.empty(0)
        runner.run(nothing)
        rates.append(2 * side**3 / min(measure_round(runner, nothing, clock, SECONDS)))
    return max(rates)


def peak_of_torch(device: str, threads: int, clock: Clock) -> float | None:
    """Return what PyTorch's float32 matrix product reaches on a device, without TF32.

    Only in a process that has imported PyTorch already; None elsewhere.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: CPU threads.
        clock: what measures.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    from toolkit.formats.torch_session import full_float32, torch_threads

    def product(side: int) -> Callable[[], None]:
        left, right, result = (torch.rand(side, side, device=device) for _ in range(3))

        def multiply() -> None:
            torch.mm(left, right, out=result)
            if device == "cuda":
                torch.cuda.synchronize()

        return multiply

    with torch_threads(threads), full_float32(), torch.inference_mode():
        return fastest_product(product, SIZES[device], clock)
