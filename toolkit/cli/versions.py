"""What ``toolkit --version`` prints: this package, what it runs on, and the engines, of which none is imported."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

import toolkit

ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino", "torch", "torchvision", "timm", "onnx", "onnxscript")
"""Names on PyPI of what trains, exports and runs a model; those that are installed are listed."""


def versions() -> Iterator[str]:
    """Yield a line for toolkit, Python and platform, and each engine."""
    yield f"toolkit {toolkit.__version__}"
    yield f"Python {platform.python_version()} on {platform.platform()}"
    for name in ENGINES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
