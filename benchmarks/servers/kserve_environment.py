"""An environment that has KServe, whose protobuf is not the one that the rest needs; made once, in the cache folder."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.environments import Environment

VERSION = "0.21.0"
KSERVE = Environment(
    "KServe",
    f"kserve-{VERSION}",
    (f"kserve=={VERSION}", "onnxruntime", "pillow", "platformdirs", "pydantic", "rich", "typer"),
)
"""KServe, and what toolkit itself needs to open a bundle; toolkit comes from this repository."""


def python_with_kserve(folder: Path | None = None) -> Path:
    """Return the interpreter of such an environment, which is made where there is none: some 550 MB from PyPI.

    Args:
        folder: where it is, or is to be; in the cache folder by default.

    Raises:
        BenchmarkError: it could not be made, or the folder holds something else.
    """
    return KSERVE.python(folder)
