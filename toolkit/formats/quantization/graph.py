"""The graph before and after quantisation: what may be quantised, onnxruntime's pre-processing, and its quantiser."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ExportError, first_line
from toolkit.formats.loggers import ROOT, silenced
from toolkit.formats.onnx_graph import name_nodes, outside_layers
from toolkit.formats.quantization.arithmetic import Arithmetic

if TYPE_CHECKING:
    import onnx

OPERATORS = [
    *("Conv", "ConvTranspose", "Gemm", "MatMul"),
    *("Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Concat", "Pad", "Resize", "Split", "Slice"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
]
"""What is quantised: layers with weights, and what stands between them, so that numbers stay 8 bits wide. Softmax and
normalisation layers are not among them: they cost little and suffer most."""
FLOAT_RESULTS = ["Gemm", "MatMul"]
"""Their results stay in float32. The last one is the logits, where 8 bits would make neighbouring classes equal."""


def preprocess(source: Path, target: Path) -> onnx.ModelProto:
    """Run onnxruntime's pre-processing: infer shapes, fold constants, fuse BatchNorm into convolutions.

    Args:
        source: the exported float32 graph.
        target: file to write, which the calibrators read.

    Returns:
        What was written; each of its nodes has a name of its own.

    Raises:
        ExportError: it failed.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet():
        try:
            quant_pre_process(source, target)
        except Exception as error:  # onnxruntime's exceptions have no common base below Exception
            raise ExportError(
                f"onnxruntime cannot prepare this network for quantisation: {first_line(error)}"
            ) from error
    model = onnx.load_model(target)
    name_nodes(model)
    _drop_unused_domains(model)
    onnx.save_model(model, target)
    return model


def quantizable(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes that may be quantised."""
    outside = outside_layers(graph)
    return {node.name for node in graph.node if node.op_type in OPERATORS and node.name not in outside}


def quantize(
    model: onnx.ModelProto, ranges: Any, nodes: Iterable[str], per_channel: bool, arithmetic: Arithmetic
) -> onnx.ModelProto:
    """Quantise some nodes of a graph by inserting QuantizeLinear and DequantizeLinear (QDQ).

    Args:
        model: what ``preprocess`` returned; it is not changed.
        ranges: of one method, see ``find_ranges``.
        nodes: names of the nodes to quantise.
        per_channel: whether each output channel of a weight gets a scale of its own.
        arithmetic: types and range.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    chosen = set(nodes)
    left_out = [node.name for node in model.graph.node if node.name not in chosen]
    with quiet():
        quantizer = QDQQuantizer(
            copy,
            per_channel,
            arithmetic.weight_bits == 7,
            QuantType.QInt8,
            QuantType.QUInt8 if arithmetic.activations == "uint8" else QuantType.QInt8,
            ranges,
            [],
            left_out,
            OPERATORS,
            {
                "OpTypesToExcludeOutputQuantization": FLOAT_RESULTS,
                "ActivationSymmetric": arithmetic.activations == "int8",
            },
        )
        quantizer.quantize_model()
        # The quantiser appends what reads a graph input at the end, and only an engine that sorts by itself accepts
        # that.
        quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    _drop_unused_domains(quantized)
    return quantized


def activation_ranges(graph: onnx.GraphProto) -> dict[str, tuple[float, float]]:
    """Return the least and the largest value that each quantised activation of a QDQ graph can have.

    Weights, graph inputs and activations with several scales are not among them.
    """
    import onnx

    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    computed = {name for node in graph.node for name in node.output}
    ranges = {}
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in computed or len(node.input) < 3:
            continue
        scale, zero = constants.get(node.input[1]), constants.get(node.input[2])
        if scale is None or zero is None or scale.size != 1 or not np.issubdtype(zero.dtype, np.integer):
            continue
        limits, middle, step = np.iinfo(zero.dtype), int(zero.item()), float(scale.item())
        ranges[node.input[0]] = ((limits.min - middle) * step, (limits.max - middle) * step)
    return ranges


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """Take out the operator sets that onnxruntime lists whether or not a node uses them.

    Another reader may refuse a file for one.
    """
    used = {"" if node.domain == "ai.onnx" else node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used or entry.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(kept)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the quantiser says about its own internals; accuracy is there to judge its work."""
    with silenced(ROOT, below=logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
