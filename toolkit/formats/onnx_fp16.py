"""ONNX in float16 for GPUs: weights and arithmetic in half precision, inputs and outputs as the contract says.

Nodes whose values do not fit into float16 stay in float32. They are found by running the float32 graph on training
images, not by a list of operators. A CPU runs the file too, in float32 arithmetic with float16 weights: onnxruntime
leaves out casts that cancel each other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toolkit import provenance
from toolkit.bundle.content import Content
from toolkit.errors import ExportError
from toolkit.formats.base import Calibration, Exported
from toolkit.formats.half import LARGEST_FLOAT16, to_float16
from toolkit.formats.onnx import OnnxFormat, OnnxSession, Target
from toolkit.formats.onnx_graph import Extremes, extremes, name_nodes, outside_layers

if TYPE_CHECKING:
    import onnx

HEADROOM = 4.0
"""Values must fit this many times over: the largest activation on some training images is not the largest there will
ever be."""
BATCH = 8


class OnnxFp16Format(OnnxFormat):
    """See the module."""

    name = "onnx-fp16"
    precision = "float16"
    suffix = ".fp16.onnx"
    calibrates = True
    narrow_type = "float16"

    def write(self, model: onnx.ModelProto, target: Target, calibration: Calibration | None) -> Exported:
        """Find what does not fit, convert the rest, and check that nothing overflows."""
        if calibration is None:
            raise ExportError("onnx-fp16 finds what would overflow on training images, and none were given.")
        name_nodes(model)
        threads = provenance.default_threads()
        with tempfile.TemporaryDirectory(prefix="toolkit-") as scratch:
            largest = extremes(model, calibration.training(BATCH), Path(scratch), threads)
        kept = too_large(model.graph, largest)
        target.save(to_float16(model, kept | _outside(model.graph)))
        broken = next(_not_finite(self.open(Content.of(target.path), "cpu", threads), calibration), None)
        if broken is not None:
            raise ExportError(
                f"in float16 the {broken} of a training image are not finite, though every value was seen to fit: "
                "use onnx instead."
            )
        return Exported(kept_float32=tuple(node.name for node in model.graph.node if node.name in kept))


def too_large(graph: onnx.GraphProto, largest: Extremes) -> set[str]:
    """Return the nodes that read or write a value which float16 cannot hold with headroom, or is not finite."""
    limit = LARGEST_FLOAT16 / HEADROOM
    values = {**largest.tensors, **largest.initializers}
    hot = {name for name, value in values.items() if not value <= limit}
    return {node.name for node in graph.node if any(name in hot for name in (*node.input, *node.output))}


def _outside(graph: onnx.GraphProto) -> set[str]:
    """Return what stays in float32 in every graph.

    Normalisation of the pixels, and the softmax that makes the second output.
    """
    outputs = {value.name for value in graph.output}
    softmax = {
        node.name for node in graph.node if node.op_type == "Softmax" and any(name in outputs for name in node.output)
    }
    return outside_layers(graph) | softmax


def _not_finite(session: OnnxSession, calibration: Calibration) -> Iterator[str]:
    """Yield the name of each output that holds NaN or infinity for some training image."""
    for inputs in calibration.training(BATCH):
        for name, values in session.run(inputs).items():
            if not np.isfinite(values).all():
                yield name
