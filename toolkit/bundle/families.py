"""What the formats of older manifests are, which do not say it themselves.

Manifests that were written before artifacts had a ``family`` and an ``engine``. A format that came later is not in this
table and never will be: its artifacts say both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OLDER = {
    "torchscript": ("torchscript", "torch"),
    "onnx": ("onnx", "onnxruntime"),
    "onnx-int8": ("onnx", "onnxruntime"),
    "onnx-fp16": ("onnx", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
    "pt2": ("pt2", "torch"),
    "aoti": ("aoti", "torch"),
}
"""Family and engine by format."""


def with_family(artifact: Mapping[str, Any]) -> dict[str, Any]:
    """Add family and engine to the raw entry of an artifact that says no family.

    Of a format that is not known from then, the family is its own name and the engine is not known.
    """
    name = artifact.get("format")
    if artifact.get("family") or not isinstance(name, str):
        return dict(artifact)
    family, engine = OLDER.get(name, (name, None))
    return {"engine": engine, **artifact, "family": family}
