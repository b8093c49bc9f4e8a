"""The benchmark stage: every way to run a model, measured side by side in processes of their own."""

from toolkit.bench.stage import bench_run

__all__ = ["bench_run"]
