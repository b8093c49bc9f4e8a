"""Ways to time an ONNX file without toolkit: a bare loop, and the methods of two widely used tools.

``python -m benchmarks.plain_timers METHOD MODEL IMAGES THREADS SECONDS`` prints images per second. Each is a process of
its own, as these tools are. What they do was written anew from their sources:

- timm: ``InferenceBenchmarkRunner.run`` in ``benchmark.py`` of huggingface/pytorch-image-models: 10 calls to warm up
  (``--num-warm-iter``), 40 that are timed (``--num-bench-iter``), all images over all the time.
- Ultralytics: ``ProfileModels.profile_onnx_model`` in ``ultralytics/utils/benchmarks.py``: three times 10 calls to warm
  up; as many as fill a least time, which is 60 s there and an argument here, and at least 100; values more than two
  standard deviations from the mean are left out, up to five times; the mean of the rest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

PARTS = 30
"""Of the bare loop: its figure is the median of so many."""
WARM_UP_CALLS = 10


def bare(call: Callable[[], object], seconds: float) -> float:
    """Return calls per second of a loop around nothing but the call: the median over its parts."""
    rates = []
    for part in range(PARTS + 1):
        calls, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds / PARTS or calls < 3:
            call()
            calls += 1
        if part:  # the first one warms up
            rates.append(calls / passed)
    return float(np.median(rates))


def timm(call: Callable[[], object], seconds: float) -> float:
    """Return calls per second as timm's benchmark.py has them; it does not ask for how long."""
    for _ in range(WARM_UP_CALLS):
        call()
    began = time.perf_counter()
    for _ in range(40):
        call()
    return round(40 / (time.perf_counter() - began), 2)


def ultralytics(call: Callable[[], object], seconds: float) -> float:
    """Return calls per second as Ultralytics' ProfileModels has them, filling at least so many seconds."""
    elapsed = 0.0
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(WARM_UP_CALLS):
            call()
        elapsed = time.perf_counter() - began
    runs = max(round(seconds / (elapsed + 1e-3) * WARM_UP_CALLS), 100)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1 / float(np.mean(clipped(np.asarray(times))))


def clipped(values: npt.NDArray[np.float64], sigma: float = 2.0, most: int = 5) -> npt.NDArray[np.float64]:
    """Leave out what is ``sigma`` standard deviations or more from the mean, again until nothing is."""
    for _ in range(most):
        kept = values[np.abs(values - values.mean()) < sigma * values.std()]
        if kept.size in (0, values.size):
            break
        values = kept
    return values


METHODS = {"bare": bare, "timm": timm, "ultralytics": ultralytics}


def main(arguments: list[str]) -> None:
    """Print images per second at batch 1 of one method."""
    import onnxruntime

    method, model, images, threads, seconds = arguments
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(threads), 1
    for pool in ("intra_op", "inter_op"):  # as toolkit.load has it
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.load(images)[:1]}
    print(METHODS[method](lambda: session.run(None, feed), float(seconds)))


if __name__ == "__main__":
    main(sys.argv[1:])
