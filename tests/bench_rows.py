"""Rows of a benchmark that are made up."""

from __future__ import annotations

from toolkit.results import BenchRow


def missing(name: str, device: str, reason: str) -> BenchRow:
    """A row without figures."""
    return BenchRow(
        name=name,
        file=None,
        sha256=None,
        device=device,
        missing=reason,
        engine=None,
        threads=2,
        timings=(),
        load_seconds=None,
        peak_memory_bytes=None,
        size_bytes=None,
        test_accuracy=None,
        test_accuracy_interval=None,
        test_images=0,
    )
