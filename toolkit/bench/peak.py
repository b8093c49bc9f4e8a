"""The fastest matrix product on a device: what operations per second are held against."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.bench.clock import Clock
from toolkit.bench.measure import measure_round
from toolkit.dependencies import import_optional, why_not
from toolkit.devices import kind_of

SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
"""Sides of the square matrices that are tried. Small ones do not fill a device, large ones wait for memory."""
SECONDS = 0.3
"""Least measured time of each side."""


class _Product:
    """One product as something to be timed."""

    def __init__(self, multiply: Callable[[], object]) -> None:
        self._multiply = multiply

    def run(self, inputs: npt.NDArray[np.generic]) -> None:
        del inputs
        self._multiply()


def fastest_product(product: Callable[[int], Callable[[], object]], sides: Sequence[int], clock: Clock) -> float:
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


def fastest_of_engines(device: str, threads: int, clock: Clock) -> float | None:
    """Return what the fastest float32 matrix product of the engines here reaches on a device; None where none ran.

    On a CPU onnxruntime's is tried beside PyTorch's: which one has kernels for all of a processor's instructions
    differs, by a factor of two on processors of AMD with AVX-512.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads.
        clock: what measures.
    """
    found = [peak_of_torch(device, threads, clock)]
    if found[0] is not None and device == "cpu":
        found.append(peak_of_onnxruntime(threads, clock))
    return max((rate for rate in found if rate is not None), default=None)


def peak_of_onnxruntime(threads: int, clock: Clock) -> float | None:
    """Return what onnxruntime's float32 matrix product reaches on the CPU; None where it or onnx is not installed.

    Args:
        threads: CPU threads.
        clock: what measures.
    """
    if why_not("onnx", "") is not None or why_not("onnxruntime", "") is not None:
        return None
    onnx, onnxruntime = import_optional("onnx", ""), import_optional("onnxruntime", "")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads

    def product(side: int) -> Callable[[], None]:
        kind = onnx.TensorProto.FLOAT
        left, right, out = (onnx.helper.make_tensor_value_info(name, kind, [side, side]) for name in ("a", "b", "c"))
        node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
        graph = onnx.helper.make_graph([node], "product", [left, right], [out])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        factors = {name: np.random.default_rng(0).random((side, side), np.float32) for name in ("a", "b")}
        return lambda: session.run(None, factors)

    return fastest_product(product, SIZES["cpu"], clock)


def peak_of_torch(device: str, threads: int, clock: Clock) -> float | None:
    """Return what PyTorch's float32 matrix product reaches on a device, without TF32.

    Only in a process that has imported PyTorch already; None elsewhere.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
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
            if device != "cpu":
                torch.cuda.synchronize(device)

        return multiply

    with torch_threads(threads), full_float32(), torch.inference_mode():
        return fastest_product(product, SIZES[kind_of(device)], clock)
