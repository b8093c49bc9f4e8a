"""Reports of a benchmark that are made up: rounds with noise whose seed is given, on a machine that is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from toolkit.bench.statistics import estimate
from toolkit.results import BatchTiming, BenchReport, BenchRow, Hardware, Interval, Latency, Provenance

HARDWARE = Hardware(
    processor="Example CPU", cores=2, memory_bytes=8_000_000_000, gpu=None, operating_system="Linux 6.1"
)
NAMES = ("eager", "onnx", "torchscript")


def provenance(hardware: Hardware = HARDWARE, **packages: str) -> Provenance:
    return Provenance(
        created="2030-01-02T03:04:05+00:00",
        toolkit="0.2.0",
        python="3.12.1",
        packages={"torch": "2.9.0", **packages},
        hardware=hardware,
        commit=None,
    )


def timing(batch_size: int, rates: Sequence[float], keep_rounds: bool = True) -> BatchTiming:
    call = batch_size / float(np.median(rates))
    return BatchTiming(
        batch_size=batch_size,
        throughput=estimate(rates),
        latency=Latency(p50_seconds=call, p95_seconds=call, p99_seconds=call, calls=70),
        rounds_images_per_second=tuple(rates) if keep_rounds else (),
    )


def row(name: str, timings: Sequence[BatchTiming], right: Sequence[bool] | None = None, **changes: object) -> BenchRow:
    """A row that was measured; of ``right`` it knows each image."""
    scored = [True] * 95 + [False] * 5 if right is None else list(right)
    facts = {
        "name": name,
        "file": f"model.{name}",
        "sha256": "a" * 64,
        "device": "cpu",
        "missing": None,
        "engine": "engine 1.0",
        "threads": 2,
        "timings": tuple(timings),
        "load_seconds": 0.1,
        "peak_memory_bytes": 100_000_000,
        "size_bytes": 13_000_000,
        "test_accuracy": float(np.mean(scored)),
        "test_accuracy_interval": Interval(low=0.0, high=1.0),
        "test_images": len(scored),
        "correct": np.packbits(np.asarray(scored, np.bool_)).tobytes().hex(),
    }
    return BenchRow.model_validate({**facts, **changes})


def report(rows: Sequence[BenchRow], **changes: object) -> BenchReport:
    facts = {
        "run": "made",
        "model": "test:net, 32 x 32, 10 classes",
        "data": "digits",
        "rows": tuple(rows),
        "seconds": 30.0,
        "provenance": provenance(),
        "test_fingerprint": "f" * 64,
    }
    return BenchReport.model_validate({**facts, **changes})


def noisy_report(
    seed: int, slowed: Mapping[str, float] | None = None, rounds: int = 12, noise: float = 0.02, **changes: object
) -> BenchReport:
    """Three rows at two batch sizes; ``slowed`` says how many times as long some of them take."""
    random = np.random.default_rng(seed)
    rows = [
        row(
            name,
            [
                timing(size, list(rate * np.exp(random.normal(0, noise, rounds)) / (slowed or {}).get(name, 1.0)))
                for size, rate in ((1, 200.0 * (place + 1)), (32, 900.0 * (place + 1)))
            ],
        )
        for place, name in enumerate(NAMES)
    ]
    return report(rows, **changes)
