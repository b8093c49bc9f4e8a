"""The benchmark stage: every way to run a model, measured side by side in processes of their own."""

from toolkit.bench.options import BenchOptions
from toolkit.bench.stage import bench_run

__all__ = ["BenchOptions", "bench_run"]
